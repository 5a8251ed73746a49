"""Typed, frozen corpora: reading, converting, checking and aligning labelled text."""
