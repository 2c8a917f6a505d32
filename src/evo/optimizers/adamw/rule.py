"""AdamW (arXiv 1711.05101) by torch's fused kernel, or for all groups at once by ours."""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evo.kernels.fused.adamw import AdamWTable, Rates
from evo.kernels.fused.support import takes_triton
from evo.optimizers.rule import Group, Rule, State, zeros


@dataclass(frozen=True)
class AdamW(Rule):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g²; p = p (1 - lr decay) - lr m^ / (sqrt(v^) + eps).

    m^ and v^ are m and v over 1 - beta^step. State: `exp_avg`, `exp_avg_sq`, and `step`, a float32 scalar.
    """

    beta1: float
    beta2: float
    eps: float
    weight_decay: float = 0.0

    def init(self, parameter: Tensor) -> State:
        """See `Rule.init`."""
        step = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return {"step": step, "exp_avg": zeros(parameter), "exp_avg_sq": zeros(parameter)}

    def scaled(self, factor: float) -> AdamW:
        """See `Rule.scaled`."""
        return replace(self, lr=self.lr * factor, weight_decay=self.weight_decay / factor)

    def step(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State], lr: Tensor | float) -> None:
        """See `Rule.step`."""
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=lr,  # pyright: ignore[reportArgumentType]
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

    def fuse(self, groups: Sequence[Group], clip: float | None) -> AdamWTable | None:
        """Three launches, where all groups are AdamW with one setting of betas and eps over dense float32 on CUDA.

        Reads the counted steps, which must be equal; they become views of one tensor, so that one launch counts all.
        """
        rules = [group.rule for group in groups if isinstance(group.rule, AdamW)]
        is_alike = len(rules) == len(groups) and len({(rule.beta1, rule.beta2, rule.eps) for rule in rules}) == 1
        parameters = [parameter for group in groups for parameter in group.parameters]
        if not is_alike or not all(map(_is_dense, parameters)):
            return None
        states = [state for group in groups for state in group.states]
        steps_P = torch.stack([state["step"] for state in states])
        if len(set(steps_P.tolist())) > 1:
            return None
        for state, step in zip(states, steps_P.unbind(), strict=True):
            state["step"] = step
        decay_G = torch.tensor([rule.weight_decay for rule in rules], device=steps_P.device)
        moments = [(state["exp_avg"], state["exp_avg_sq"]) for state in states]
        numbers = [index for index, group in enumerate(groups) for _ in group.parameters]
        return AdamWTable(parameters, moments, numbers, steps_P, decay_G, Rates(self.beta1, self.beta2, self.eps, clip))


def _is_dense(parameter: Tensor) -> bool:
    return takes_triton(parameter) and parameter.dtype == torch.float32 and parameter.is_contiguous()
