"""Convolutions whose taps tokens make."""
