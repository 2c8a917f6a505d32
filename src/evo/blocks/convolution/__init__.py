"""Causal depthwise short convolution as a mixer."""
