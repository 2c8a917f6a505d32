"""Latent attention: keys and values of all heads are maps of one narrow vector a token, which is all that is kept."""
