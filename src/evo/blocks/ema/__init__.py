"""Damped moving averages of each channel."""
