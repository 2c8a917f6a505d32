"""Several mixers side by side."""
