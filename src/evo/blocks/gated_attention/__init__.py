"""Gated attention units, and their form over moving averages."""
