"""One block's output, gated by another's."""
