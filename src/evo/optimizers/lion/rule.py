"""Lion (arXiv 2302.06675, algorithm 2): the sign of a blend of momentum and gradient."""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evo.optimizers.rule import Rule, State, decay, descend, zeros


@dataclass(frozen=True)
class Lion(Rule):
    """c = beta1 m + (1 - beta1) g; p = p - lr (sign(c) + weight_decay p); m = beta2 m + (1 - beta2) g."""

    beta1: float
    beta2: float
    weight_decay: float = 0.0

    def init(self, parameter: Tensor) -> State:
        """See `Rule.init`."""
        return {"momentum": zeros(parameter)}

    def scaled(self, factor: float) -> Lion:
        """See `Rule.scaled`."""
        return replace(self, lr=self.lr * factor, weight_decay=self.weight_decay / factor)

    def step(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State], lr: Tensor | float) -> None:
        """See `Rule.step`."""
        momenta = [state["momentum"] for state in states]
        directions = list(torch._foreach_lerp(momenta, gradients, 1 - self.beta1))
        torch._foreach_sign_(directions)
        decay(parameters, lr * self.weight_decay)
        descend(parameters, directions, lr)
        torch._foreach_lerp_(momenta, gradients, 1 - self.beta2)
