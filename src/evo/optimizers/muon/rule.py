"""Muon (Jordan et al. 2024): momentum, orthogonalised by Newton-Schulz steps; all matrices of a shape in one batch."""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evo.optimizers.rule import Rule, State, decay, descend, zeros

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose slope at zero is largest."""
EPS = 1e-7


@dataclass(frozen=True)
class Muon(Rule):
    """m = momentum m + (1 - momentum) g; p = p (1 - lr decay) - lr sqrt(max(1, rows / columns)) orthogonal(m).

    Parameters are (..., rows, columns), each matrix on its own. With `nesterov`, m is blended with g once more. With
    the scale by the shape `lr` is usually 10 to 60 times AdamW's. State: `momentum_buffer`.
    """

    momentum: float
    nesterov: bool
    iterations: int
    weight_decay: float = 0.0

    def init(self, parameter: Tensor) -> State:
        """See `Rule.init`."""
        return {"momentum_buffer": zeros(parameter)}

    def spectral_step(self, rows: int, columns: int) -> float:
        """See `Rule.spectral_step`: all singular values of an update are about 1 before it is scaled."""
        return _scale(rows, columns)

    def scaled(self, factor: float) -> Muon:
        """See `Rule.scaled`."""
        return replace(self, lr=self.lr * factor, weight_decay=self.weight_decay / factor)

    def step(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State], lr: Tensor | float) -> None:
        """See `Rule.step`."""
        buffers = [state["momentum_buffer"] for state in states]
        torch._foreach_lerp_(buffers, gradients, 1 - self.momentum)
        updates = torch._foreach_lerp(gradients, buffers, self.momentum) if self.nesterov else buffers
        decay(parameters, lr * self.weight_decay)
        shapes: dict[torch.Size, list[int]] = {}
        for index, parameter in enumerate(parameters):
            shapes.setdefault(parameter.shape, []).append(index)
        for shape, members in shapes.items():
            turned = orthogonal(torch.stack([updates[i] for i in members]), self.iterations)
            directions = list(turned.to(parameters[members[0]].dtype).unbind())
            descend([parameters[i] for i in members], directions, lr * _scale(shape[-2], shape[-1]))


def _scale(rows: int, columns: int) -> float:
    return math.sqrt(max(1.0, rows / columns))


def orthogonal(x_RC: Tensor, iterations: int) -> Tensor:
    """Each (..., R, C) matrix moved towards its nearest semi-orthogonal one by Newton-Schulz steps.

    In bfloat16, but on a CPU, where that takes 20 to 40 times as long as float32. A CPU takes one matrix at a time: a
    batch saves it nothing, and its rounding would depend on the batch's size.
    """
    x_NRC = x_RC.flatten(0, -3).to(_arithmetic(x_RC.device))
    if x_RC.device.type != "cpu":
        return _newton_schulz(x_NRC, iterations).view(x_RC.shape)
    return torch.cat([_newton_schulz(x_1RC, iterations) for x_1RC in x_NRC.split(1)]).view(x_RC.shape)


def _arithmetic(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def _newton_schulz(x_NRC: Tensor, iterations: int) -> Tensor:
    a, b, c = COEFFICIENTS
    is_tall = x_NRC.shape[1] > x_NRC.shape[2]
    x = x_NRC.mT if is_tall else x_NRC
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=EPS)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
