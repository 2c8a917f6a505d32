"""Causal convolutions over time: short depthwise taps and long filters by FFT.

May import: torch, `evo.kernels.dispatch`, `evo.kernels.documents`, `evo.kernels.operators`.
"""

from evo.kernels.convolution.call import ConvolutionCall
from evo.kernels.convolution.long import long_convolution
from evo.kernels.convolution.short import plan, short_convolution

__all__ = ["ConvolutionCall", "long_convolution", "plan", "short_convolution"]
