"""How decoding keeps keys and values: in how many bits, and for how many positions."""
