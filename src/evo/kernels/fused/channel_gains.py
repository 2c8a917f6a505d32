"""Gains of runs of channels, met on the way into a linear map: x diag(g) W^T.

Either the gains multiply what enters the map, (x diag(g)) W^T, which every projection can do; or they are folded into
the map, x (W diag(g))^T, for whoever makes a copy of W anyway: a map is read once a step, and is smaller than a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def living(gains_P: Tensor) -> Tensor:
    """The gains; one that is exactly 0 learns nothing."""
    return gains_P * (gains_P.detach() != 0)


def scaled_channels(x: Tensor, gains_P: Tensor) -> Tensor:
    """x (..., C), in its dtype: its channels in P runs of equal length, each multiplied by its gain."""
    return (x.unflatten(-1, (len(gains_P), -1)) * living(gains_P).to(x.dtype)[:, None]).flatten(-2)


def folded(weight_OC: Tensor, gains_P: Tensor, dtype: torch.dtype) -> Tensor:
    """W diag(g), (O, C), computed in W's dtype and rounded to `dtype` in the same launch. It has no graph."""
    folded_OC = torch.empty_like(weight_OC, dtype=dtype)
    torch.mul(_by_run(weight_OC, gains_P), gains_P[:, None], out=_by_run(folded_OC, gains_P))
    return folded_OC


def unfolded(gradient_OC: Tensor, weight_OC: Tensor, gains_P: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of W, (O, C), and of g, (P,), by that of W diag(g).

    They are G diag(g) and, summed over outputs and over the channels of each run, G * W: exactly those of
    `scaled_channels`, and so 0 for a gain that is exactly 0.
    """
    gradient_OPK = _by_run(gradient_OC, gains_P)
    of_gains_P = (gradient_OPK * _by_run(weight_OC, gains_P)).sum((0, 2)) * (gains_P != 0)
    return (gradient_OPK * gains_P[:, None]).flatten(1), of_gains_P


def _by_run(weight_OC: Tensor, gains_P: Tensor) -> Tensor:
    return weight_OC.unflatten(-1, (len(gains_P), -1))
