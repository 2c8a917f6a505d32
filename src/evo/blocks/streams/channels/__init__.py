"""Residual streams whose channels are read by gates."""
