"""Activations that are sums of powers with learned coefficients."""
