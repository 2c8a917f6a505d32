"""A stage over patches of tokens."""
