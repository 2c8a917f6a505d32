"""A feed-forward gated by what a layer knows of the token itself."""
