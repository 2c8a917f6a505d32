"""Causal convolutions over time: short depthwise taps and long filters by FFT. May import: torch."""

from evo.kernels.convolution.long import long_convolution
from evo.kernels.convolution.short import short_convolution

__all__ = ["long_convolution", "short_convolution"]
