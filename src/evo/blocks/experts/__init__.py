"""Feed-forwards of many experts, of which a token meets a few."""
