"""Residual streams side by side, and what connects them with the blocks of a layer."""
