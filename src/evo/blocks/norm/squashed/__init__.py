"""A function of each channel by itself in a norm's place."""
