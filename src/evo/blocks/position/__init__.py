"""How order enters: rotary angles and their scalings, ALiBi, learned vectors, nothing."""
