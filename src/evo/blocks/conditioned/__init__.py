"""A mixer that a condition bends: what came before, or another stage, scales and shifts what it reads or makes."""
