"""Activations of one value that no kernel has, and some with a learned slope."""
