"""Hyena: gated long convolutions whose filters are functions of position."""
