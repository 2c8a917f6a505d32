"""Sublayers that attend to what all before them gave."""
