"""Entries that stand for whole blocks of earlier tokens, beside the tokens that a stencil shows."""
