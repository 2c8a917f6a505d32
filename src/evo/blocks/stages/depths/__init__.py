"""A stage that only some of the tokens pass."""
