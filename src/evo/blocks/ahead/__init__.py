"""Predictions of tokens beyond the next, in training alone."""
