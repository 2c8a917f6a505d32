"""A run of layers."""
