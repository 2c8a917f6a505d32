"""Tokens mixed by where they stand alone."""
