"""An optimizer's step as work for the device alone: nothing on the way is read by the host.

Learning rates are tensors, AdamW's steps are counted on the device, Lion and Muon run over all tensors of a shape at
once. So a step can be captured in a CUDA graph, and the optimizer's own state dict stays what it was: the tensors that
are updated here are the ones it holds.
"""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from evo.kernels.fused.adamw import AdamWTable, Rates
from evo.kernels.fused.support import is_fused
from evo.training.optimizers import rules

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_EPS = 1e-7
Group = dict[str, Any]


class DeviceUpdate:
    """The clipped step of an optimizer that `make_optimizer` made.

    copies: half-precision copies by parameter, which a step renews if `renews_copies`.
    peak_G: the groups' peak learning rates, float32. Missing state is made, as the optimizer itself would on its first
    step. Where all is AdamW in float32 on CUDA, three launches do everything; else clipping is torch's and each
    group follows its rule.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, clip: float | None, copies: dict[Tensor, Tensor] | None = None
    ) -> None:
        self.optimizer, self.clip, self.copies = optimizer, clip, copies
        self.groups: list[tuple[str, Group]] = list(zip(rules(optimizer), optimizer.param_groups, strict=True))
        self.parameters: list[Tensor] = [p for _, group in self.groups for p in group["params"]]
        device = self.parameters[0].device
        self.peak_G = torch.tensor([group["initial_lr"] for _, group in self.groups], device=device)
        for rule, group in self.groups:
            STATES[rule](optimizer.state, group["params"])
        self.steps_P = self._join_steps()
        self.table = self._make_table() if self._is_tabular() else None

    def apply(self, scale: Tensor) -> None:
        """Clip and update by each parameter's `.grad`, at `scale` (a scalar tensor) times the peak rates."""
        lr_G = self.peak_G * scale
        if any(p.grad is None for p in self.parameters):
            self.table = None
        if self.table is not None:
            if not torch.cuda.is_current_stream_capturing():
                self.find_gradients()
            self.table.launch(lr_G)
            return
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if self.steps_P is not None:
            self.steps_P.add_(1.0)
        for (rule, group), lr in zip(self.groups, lr_G.unbind(), strict=True):
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                UPDATES[rule](parameters, [p.grad for p in parameters], self.optimizer.state, group, lr)

    def find_gradients(self) -> None:
        """Look up where the gradients lie: before every step, or once after a capture."""
        if self.table is not None:
            self.table.point_at([p.grad for p in self.parameters if p.grad is not None], self.copies)

    @property
    def renews_copies(self) -> bool:
        """Whether `apply` writes the copies too."""
        return self.table is not None

    def state(self) -> list[Tensor]:
        """Every tensor that a step changes, parameters included."""
        held = (self.optimizer.state[p].values() for p in self.parameters)
        return [*self.parameters, *(value for values in held for value in values if isinstance(value, Tensor))]

    def _join_steps(self) -> Tensor | None:
        """AdamW's counters as views of one tensor, so that one launch counts them all."""
        states = [self.optimizer.state[p] for rule, group in self.groups if rule == "adamw" for p in group["params"]]
        if not states:
            return None
        steps_P = torch.stack([state["step"].to(self.peak_G.device, torch.float32).reshape(()) for state in states])
        for state, step in zip(states, steps_P.unbind(), strict=True):
            state["step"] = step
        return steps_P

    def _is_tabular(self) -> bool:
        """Whether all is AdamW over dense float32 tensors on CUDA, in step, with one setting of betas."""
        kinds = {(rule, group.get("betas"), group.get("eps")) for rule, group in self.groups}
        is_adamw = len(kinds) == 1 and self.groups[0][0] == "adamw"
        fits = all(is_fused(p) and p.dtype == torch.float32 and p.is_contiguous() for p in self.parameters)
        return is_adamw and fits and self.steps_P is not None and len(set(self.steps_P.tolist())) == 1

    def _make_table(self) -> AdamWTable:
        assert self.steps_P is not None
        state, first = self.optimizer.state, self.groups[0][1]
        numbers = [index for index, (_, group) in enumerate(self.groups) for _ in group["params"]]
        beta1, beta2 = first["betas"]
        decay_G = torch.tensor([group["weight_decay"] for _, group in self.groups], device=self.peak_G.device)
        moments = [(state[p]["exp_avg"], state[p]["exp_avg_sq"]) for p in self.parameters]
        rates = Rates(beta1, beta2, first["eps"], self.clip)
        return AdamWTable(self.parameters, moments, numbers, self.steps_P, decay_G, rates)


def _zeros(*names: str, counts: bool = False) -> Callable[[Any, Sequence[Tensor]], None]:
    """A maker of state: zeros like the parameter under each name, and a counter."""

    def make(state: Any, parameters: Sequence[Tensor]) -> None:
        for p in parameters:
            if counts and "step" not in state[p]:
                state[p]["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            for name in names:
                if name not in state[p]:
                    state[p][name] = torch.zeros_like(p, memory_format=torch.preserve_format)

    return make


def adamw(parameters: list[Tensor], gradients: list[Tensor], state: Any, group: Group, lr: Tensor) -> None:
    """torch's fused AdamW with a rate on the device; steps are already counted."""
    held = [state[p] for p in parameters]
    torch._fused_adamw_(
        parameters,
        gradients,
        [s["exp_avg"] for s in held],
        [s["exp_avg_sq"] for s in held],
        [],
        [s["step"] for s in held],
        lr=lr,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def lion(parameters: list[Tensor], gradients: list[Tensor], state: Any, group: Group, lr: Tensor) -> None:
    """`evo.training.optimizers.Lion` over all tensors at once."""
    beta1, beta2 = group["betas"]
    momenta = [state[p]["momentum"] for p in parameters]
    directions = torch._foreach_lerp(momenta, gradients, 1 - beta1)
    torch._foreach_sign_(directions)
    torch._foreach_mul_(directions, lr)
    torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
    torch._foreach_sub_(parameters, directions)
    torch._foreach_lerp_(momenta, gradients, 1 - beta2)


def muon(parameters: list[Tensor], gradients: list[Tensor], state: Any, group: Group, lr: Tensor) -> None:
    """`torch.optim.Muon` with the original scale, the matrices of one shape in one batch (Jordan et al. 2024)."""
    momentum = group["momentum"]
    buffers = [state[p]["momentum_buffer"] for p in parameters]
    torch._foreach_lerp_(buffers, gradients, 1 - momentum)
    updates = torch._foreach_lerp(gradients, buffers, momentum) if group["nesterov"] else buffers
    shapes: dict[torch.Size, list[int]] = {}
    for index, parameter in enumerate(parameters):
        shapes.setdefault(parameter.shape, []).append(index)
    torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
    for (rows, columns), members in shapes.items():
        turned = orthogonal(torch.stack([updates[i] for i in members]), group["ns_steps"])
        moves = turned.float() * (lr * math.sqrt(max(1.0, rows / columns)))
        torch._foreach_sub_([parameters[i] for i in members], list(moves.unbind()))


def orthogonal(x_NRC: Tensor, steps: int) -> Tensor:
    """Each (R, C) matrix moved towards its nearest semi-orthogonal one by Newton-Schulz steps, bfloat16."""
    a, b, c = NEWTON_SCHULZ
    is_tall = x_NRC.shape[1] > x_NRC.shape[2]
    x = x_NRC.bfloat16()
    x = x.mT if is_tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=NEWTON_SCHULZ_EPS)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


STATES = {
    "adamw": _zeros("exp_avg", "exp_avg_sq", counts=True),
    "lion": _zeros("momentum"),
    "muon": _zeros("momentum_buffer"),
}
UPDATES = {"adamw": adamw, "lion": lion, "muon": muon}
