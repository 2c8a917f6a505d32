"""Attention over a fixed number of slots that tokens are written to: GSA and ABC."""
