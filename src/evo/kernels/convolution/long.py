"""Long causal convolution by FFT (Hyena, arXiv 2302.10866; S4)."""

from __future__ import annotations

import torch
from torch import Tensor


def long_convolution(x_BTD: Tensor, filter_DT: Tensor, *, skip_D: Tensor | None = None) -> Tensor:
    """The causal convolution sum_{s <= t} filter[:, t - s] x_s (+ skip x_t), (B, T, D) in x's dtype.

    `filter_DT` may be shorter or longer than x in time; taps beyond T are never reached. The transform is padded so
    that nothing wraps round. It runs in float64 (in float32 on Apple's GPUs, which have none): a value of a transform
    is rounded by the size of the largest, so in float32 what comes late and is large would reach earlier outputs.
    """
    T, D = x_BTD.shape[1:]
    if filter_DT.shape[0] != D:
        raise ValueError(f"filter must be ({D}, taps), found {tuple(filter_DT.shape)}")
    if skip_D is not None and skip_D.shape != (D,):
        raise ValueError(f"skip_D must be ({D},), found {tuple(skip_D.shape)}")
    if x_BTD.numel() == 0:
        return x_BTD.clone()
    compute = torch.promote_types(x_BTD.dtype, torch.float32 if x_BTD.device.type == "mps" else torch.float64)
    taps = filter_DT[:, :T].to(compute)
    length = 1 << (T + taps.shape[1] - 2).bit_length()
    spectrum_BDF = torch.fft.rfft(x_BTD.to(compute).transpose(1, 2), n=length) * torch.fft.rfft(taps, n=length)
    y_BTD = torch.fft.irfft(spectrum_BDF, n=length)[..., :T].transpose(1, 2)
    if skip_D is not None:
        y_BTD = y_BTD + skip_D * x_BTD
    return y_BTD.to(x_BTD.dtype)
