"""Vectors of hashed n-grams that the stream lets in by a gate."""
