"""Gates on what an earlier mixer read from its state."""
