"""Symbols among blanks, copied: a task of MAD."""
