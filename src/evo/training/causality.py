"""The causality probe: no output may depend on a later input, in values and in gradients.

It runs on every candidate before training, because a search that minimises loss selects exactly the blocks that leak.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.compiler.organism import Organism

TOKENS = 80
CUTS = 6
TOLERANCE = 1e-4
"""Relative to the largest value: above the rounding of sums taken in another order, far below any real influence."""


@dataclass(frozen=True)
class Leak:
    """Outputs before position `cut` changed, or had gradients, with inputs from `cut` on."""

    cut: int
    in_values: float
    in_gradients: float


def find_leak(model: Organism, seed: int = 0) -> Leak | None:
    """The first leak found, or None. The model should carry its trained or initial weights; float32.

    For several cuts j: all inputs from j on are replaced and the outputs before j must stay; and the gradient of a
    random projection of the outputs before j must vanish on the inputs from j on.
    """
    generator = torch.Generator().manual_seed(Stream(seed).child("causality").integer())
    tokens = min(TOKENS, model.plan.context)
    parameter = next(model.parameters())
    shape = (1, tokens, model.plan.width)
    scale = float(model.embedding.weight.detach().std()) or 1.0
    one_BTD, two_BTD = (torch.randn(shape, generator=generator).to(parameter) * scale for _ in range(2))
    projection_BTV = torch.randn(1, tokens, model.plan.vocab, generator=generator).to(parameter)
    for cut in _cuts(tokens):
        leak = _leak_at(model, cut, one_BTD, two_BTD, projection_BTV)
        if leak is not None:
            return leak
    return None


def _cuts(tokens: int) -> list[int]:
    return sorted({max(1, round(tokens * k / CUTS)) for k in range(1, CUTS)} | {1, tokens - 1} - {0})


def _leak_at(model: Organism, cut: int, one_BTD: Tensor, two_BTD: Tensor, projection_BTV: Tensor) -> Leak | None:
    x_BTD = one_BTD.clone().requires_grad_(True)
    logits_BTV = model.forward_embedded(x_BTD)
    seen = (logits_BTV[:, :cut] * projection_BTV[:, :cut]).sum()
    (gradient_BTD,) = torch.autograd.grad(seen, x_BTD)
    with torch.no_grad():
        changed_BTV = model.forward_embedded(torch.cat([one_BTD[:, :cut], two_BTD[:, cut:]], dim=1))
    in_values = _relative((changed_BTV - logits_BTV.detach())[:, :cut], logits_BTV.detach())
    in_gradients = _relative(gradient_BTD[:, cut:], gradient_BTD)
    leaks = not (in_values <= TOLERANCE and in_gradients <= TOLERANCE)
    return Leak(cut, in_values, in_gradients) if leaks else None


def _relative(part: Tensor, whole: Tensor) -> float:
    """The largest magnitude of `part` relative to the largest of `whole`; NaN if anything is not finite."""
    if part.numel() == 0:
        return 0.0
    return float(part.abs().max() / whole.abs().max().clamp_min(1e-30))
