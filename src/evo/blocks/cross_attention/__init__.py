"""Attention of each token to the vectors that a stage gives it."""
