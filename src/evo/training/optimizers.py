"""Optimisers from their specs: AdamW and Muon are torch's own, Lion is written here.

Weight decay is decoupled and reaches only matrices and larger tensors that are not embeddings. Muon takes the
matrices of the hidden layers; everything else, embeddings, readout, vectors, tensors of three and more dimensions,
goes to AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

NamedParameters = Sequence[tuple[str, nn.Parameter]]

MUON_SHORTEST_SIDE = 8
ADAMW_BETAS = (0.9, 0.95)
ADAMW_EPS = 1e-8


def make_optimizer(named_parameters: NamedParameters, spec: Any) -> torch.optim.Optimizer:
    """The optimiser that `spec.kind` names, over all parameters, each once.

    'adamw' reads `lr`, `weight_decay`, `beta1`, `beta2`, `eps`; 'muon' reads `lr` (for matrices), `adamw_lr` (for the
    rest), `momentum`, `nesterov`, `steps`, `weight_decay`; 'lion' reads `lr`, `beta1`, `beta2`, `weight_decay`.
    Every parameter group carries its peak learning rate as `initial_lr`. State dicts hold tensors and numbers only.
    Raises KeyError for another kind, ValueError if there is no parameter.
    """
    if not named_parameters:
        raise ValueError("a network without parameters cannot be trained")
    optimizer = _MAKERS[spec.kind](named_parameters, spec)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def set_lr_scale(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Set each group's learning rate to `scale` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * scale


def rules(optimizer: torch.optim.Optimizer) -> list[str]:
    """Which rule each parameter group of an optimiser made here follows: 'adamw', 'muon' or 'lion'."""
    if isinstance(optimizer, MuonWithAdamW):
        return [rule for part, _ in optimizer.parts for rule in rules(part)]
    names = {torch.optim.AdamW: "adamw", torch.optim.Muon: "muon", Lion: "lion"}
    return [names[type(optimizer)]] * len(optimizer.param_groups)


def is_embedding(name: str) -> bool:
    """Whether a parameter's dotted name says that its rows are looked up: tokens, positions, a hash of n-grams."""
    return any("embed" in part or part == "positions" for part in name.lower().split("."))


def is_readout(name: str) -> bool:
    """Whether a parameter's dotted name says that it maps to the vocabulary."""
    return any(part in {"readout", "unembed", "lm_head"} for part in name.lower().split("."))


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: tensors of two and more dimensions, but not embeddings."""
    return parameter.ndim >= 2 and not is_embedding(name)


def is_muon_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon takes a parameter: a matrix inside the network that maps many channels to many.

    A side under `MUON_SHORTEST_SIDE` means the taps of a convolution or a gate per head rather than a map worth
    orthogonalising. A stack of matrices (experts) has three dimensions and goes to AdamW.
    """
    is_hidden = not is_embedding(name) and not is_readout(name)
    return is_hidden and parameter.ndim == 2 and min(parameter.shape) >= MUON_SHORTEST_SIDE


def _decay_groups(named_parameters: NamedParameters, weight_decay: float) -> list[dict[str, Any]]:
    """Up to two parameter groups, with and without weight decay; an empty one is left out."""
    with_decay = [parameter for name, parameter in named_parameters if decays(name, parameter)]
    without = [parameter for name, parameter in named_parameters if not decays(name, parameter)]
    groups = [{"params": with_decay, "weight_decay": weight_decay}, {"params": without, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _adamw(
    named_parameters: NamedParameters, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    can_fuse = all(
        parameter.device.type in {"cpu", "cuda"} and parameter.is_floating_point() for _, parameter in named_parameters
    )
    groups = _decay_groups(named_parameters, weight_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=can_fuse or None)


def _make_adamw(named_parameters: NamedParameters, spec: Any) -> torch.optim.Optimizer:
    return _adamw(named_parameters, spec.lr, (spec.beta1, spec.beta2), spec.eps, spec.weight_decay)


def _make_muon(named_parameters: NamedParameters, spec: Any) -> torch.optim.Optimizer:
    return MuonWithAdamW(
        [row for row in named_parameters if is_muon_matrix(*row)],
        [row for row in named_parameters if not is_muon_matrix(*row)],
        spec,
    )


def _make_lion(named_parameters: NamedParameters, spec: Any) -> torch.optim.Optimizer:
    return Lion(_decay_groups(named_parameters, spec.weight_decay), lr=spec.lr, betas=(spec.beta1, spec.beta2))


class MuonWithAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` for matrices and `torch.optim.AdamW` for the rest, as one optimiser with one state dict.

    Muon (Jordan et al. 2024): momentum, then the update is replaced by its nearest semi-orthogonal matrix, found
    roughly by `spec.steps` Newton-Schulz steps in bfloat16, scaled by sqrt(max(1, rows / columns)). With that scale
    `lr` is usually 10 to 60 times AdamW's.
    """

    def __init__(self, matrices: NamedParameters, rest: NamedParameters, spec: Any) -> None:
        self.parts: list[tuple[torch.optim.Optimizer, int]] = []
        groups: list[dict[str, Any]] = []
        for part in self._build(matrices, rest, spec):
            self.parts.append((part, len(part.param_groups)))
            groups.extend(part.param_groups)
        super().__init__(groups, {})

    @staticmethod
    def _build(matrices: NamedParameters, rest: NamedParameters, spec: Any) -> list[torch.optim.Optimizer]:
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(
                [parameter for _, parameter in matrices],
                lr=spec.lr,
                weight_decay=spec.weight_decay,
                momentum=spec.momentum,
                nesterov=spec.nesterov,
                ns_steps=spec.steps,
                adjust_lr_fn="original",
            )
            parts.append(muon)
        if rest:
            parts.append(_adamw(rest, spec.adamw_lr, ADAMW_BETAS, ADAMW_EPS, spec.weight_decay))
        return parts

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both. The parts work on this optimiser's groups and state, also after `load_state_dict`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        first = 0
        for part, count in self.parts:
            part.param_groups = self.param_groups[first : first + count]
            part.state = self.state
            part.step()
            first += count
        return loss


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2): the sign of a blend of momentum and gradient.

    c = beta1 m + (1 - beta1) g;  w = w - lr (sign(c) + weight_decay w);  m = beta2 m + (1 - beta2) g.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        momentum = state["momentum"]
        direction = momentum.lerp(gradient, 1 - beta1).sign_()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"])
        momentum.lerp_(gradient, 1 - beta2)


_MAKERS: dict[str, Callable[[NamedParameters, Any], torch.optim.Optimizer]] = {
    "adamw": _make_adamw,
    "muon": _make_muon,
    "lion": _make_lion,
}
