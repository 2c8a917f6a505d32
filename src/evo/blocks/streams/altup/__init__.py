"""Alternating updates: a layer computes one stream, and the others follow it."""
