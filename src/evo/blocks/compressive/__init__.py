"""Attention within segments, beside a memory of all segments before."""
