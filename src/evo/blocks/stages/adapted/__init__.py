"""A stage with adapters of its own use, so that others may have its weights without them."""
