"""A number hidden in a text."""
