"""A memory of values that product keys find."""
