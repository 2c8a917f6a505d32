"""One mixer's output, gated by another's."""
