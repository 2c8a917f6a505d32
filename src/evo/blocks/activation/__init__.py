"""Activations: words for functions of one value, and specs for those that have numbers or weights of their own."""
