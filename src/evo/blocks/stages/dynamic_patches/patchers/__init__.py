"""Patchers: what decides behind which tokens a patch ends, by the tokens so far."""
