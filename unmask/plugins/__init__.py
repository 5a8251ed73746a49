"""Labelers inside other people's tools: spaCy, transformers pipelines, scikit-learn, a server.

Each file needs only the tool it is for, and is imported by nobody else here.
"""
