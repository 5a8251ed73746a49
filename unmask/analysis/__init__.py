"""Scores of predictions and measures of corpora; runs without torch."""
