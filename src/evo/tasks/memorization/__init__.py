"""Facts that are learned by heart: a task of MAD."""
