"""The check that stands before every timing: our kernel against float64, values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evo.bench.kernels_cases import Case


def largest_error(case: Case) -> float:
    """Largest relative error of our output and gradients against float64, on a shorter sequence of an odd length.

    Batch and heads stay: tiles are chosen by them, and those that are timed are those to check. NaN if any of them is.
    """
    B, T, H = case.shape[0], min(case.shape[1], 499), case.shape[2]
    inputs = [x.requires_grad_() for x in case.make(B, T, H)]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    got, wanted = _answer(case.ours, inputs), _answer(case.exact, wide)
    errors = [(g.double() - w).norm() / w.norm() for g, w in zip(got, wanted, strict=True)]
    return torch.stack(errors).max().item()  # which NaN passes through, unlike Python's max


def _answer(call: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    o = call(*inputs)
    weights = torch.cos(torch.arange(o.numel(), device=o.device)).reshape(o.shape).to(o.dtype)
    return [o.detach(), *torch.autograd.grad((o * weights).sum(), inputs)]
