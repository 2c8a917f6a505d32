"""Several mixers, of which each token meets a few."""
