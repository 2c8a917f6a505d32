"""Associative recall in context, clean, noisy and fuzzy: three tasks of MAD."""
