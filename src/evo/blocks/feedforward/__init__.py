"""Position-wise feed-forwards: dense and gated."""
