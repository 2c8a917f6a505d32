"""Sines, guessed from a few of their points."""
