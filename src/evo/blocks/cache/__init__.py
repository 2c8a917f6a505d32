"""How decoding keeps keys and values: in how many bits, for how many positions, and for which."""
