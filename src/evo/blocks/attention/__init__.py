"""Softmax attention: grouped heads, stencils, QK-norm, soft cap, learned sinks."""
