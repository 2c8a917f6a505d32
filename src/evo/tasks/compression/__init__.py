"""A sequence in one vector: a task of MAD."""
