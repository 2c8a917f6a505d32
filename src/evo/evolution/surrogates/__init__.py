"""Guesses at candidates before they are trained."""
