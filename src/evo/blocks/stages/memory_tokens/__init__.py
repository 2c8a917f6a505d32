"""A stage over segments of tokens with learned vectors between them."""
