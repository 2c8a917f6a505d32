"""A norm times a constant of its layer."""
