"""The parameters of a model under the rules that their optimizer's spec assigns, and one clipped step of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evo.dsl.plan import Weight
from evo.dsl.rates import RatesSpec
from evo.dsl.spec import Spec
from evo.optimizers.rule import FusedStep, Group, Rule, State
from evo.optimizers.spec import OptimizerSpec


class Optimizer:
    """Every parameter of a model in the group of its rule, with the state that the rule keeps of it.

    parameters: by path. weights: what the plan declares of each. clip: the largest norm of the whole gradient, None
    for any. rates: how learning rates follow widths in a model of `width`, None for all alike. The same step is
    launched eagerly and captured in a CUDA graph; the tensors it changes stay the same ones.

    Raises:
        ValueError: there is no parameter, parameters and weights are not the same paths, or the spec assigns a rule to
            too few paths or too many.
        TypeError: the spec is not an optimizer's.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        weights: Mapping[str, Weight],
        spec: Spec,
        clip: float | None = None,
        rates: RatesSpec | None = None,
        width: int = 0,
    ) -> None:
        rules = assigned(spec, weights, parameters)
        if rates is not None:
            rules = rated(rules, weights, rates, width)
        self.parameters, self.clip = dict(parameters), clip
        self.gradient_norm: Tensor | None = None
        """Of the whole gradient at the last step, before it was clipped; None where nothing is clipped."""
        self.states = {path: rules[path].init(parameter.detach()) for path, parameter in self.parameters.items()}
        by_rule: dict[Rule, list[str]] = {}
        for path in self.parameters:
            by_rule.setdefault(rules[path], []).append(path)
        self.groups = [
            Group(rule, [self.parameters[path] for path in paths], [self.states[path] for path in paths])
            for rule, paths in by_rule.items()
        ]
        device = next(iter(self.parameters.values())).device
        self.peak_G = torch.tensor([group.rule.lr for group in self.groups], dtype=torch.float32, device=device)

    @torch.no_grad()
    def step(self, scale: Tensor | float) -> None:
        """Clip and update by each parameter's `.grad`; one without stays as it is.

        scale: the share of the peak learning rates, a number or a float32 scalar on the device. Gradients are scaled in
        place where they are clipped.
        """
        if self.clip is not None:
            self.gradient_norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        for group, lr in zip(self.groups, self._rates(scale), strict=True):
            held = [(p, p.grad, state) for p, state in zip(group.parameters, group.states, strict=True)]
            moved = [row for row in held if row[1] is not None]
            if moved:
                parameters, gradients, states = map(list, zip(*moved, strict=True))
                group.rule.step(parameters, gradients, states, lr)

    def fuse(self) -> FusedStep | None:
        """A step of all groups, clipping included, in a few launches; None where the rules have none."""
        return self.groups[0].rule.fuse(self.groups, self.clip)

    def state_dict(self) -> dict[str, State]:
        """The state by path: the tensors themselves."""
        return {path: dict(state) for path, state in self.states.items()}

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Copy a state into this optimizer's tensors, which stay the ones that a captured step changes.

        Raises:
            ValueError: the paths, names or shapes are not those of this optimizer.
        """
        layout = {path: {name: held.shape for name, held in state.items()} for path, state in self.states.items()}
        if layout != {path: {name: held.shape for name, held in state.items()} for path, state in saved.items()}:
            raise ValueError("the state is not that of this optimizer")
        for path, state in self.states.items():
            for name, held in state.items():
                held.copy_(saved[path][name])

    def tensors(self) -> list[Tensor]:
        """Every tensor that a step changes, parameters included."""
        return [*self.parameters.values(), *(held for state in self.states.values() for held in state.values())]

    def _rates(self, scale: Tensor | float) -> list[Tensor] | list[float]:
        if isinstance(scale, Tensor):
            return list((self.peak_G * scale).unbind())
        return [group.rule.lr * scale for group in self.groups]


def assigned(spec: Spec, weights: Mapping[str, Weight], parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Rule]:
    """The rule of every parameter by path. Raises as `Optimizer` does."""
    if not isinstance(spec, OptimizerSpec):
        raise TypeError(f"{type(spec).__name__} is not the spec of an optimizer")
    if not parameters:
        raise ValueError("a network without parameters cannot be trained")
    rules = spec.assign(weights)
    for found, name in ((weights, "the plan's weights are"), (rules, f"{type(spec).__name__} assigns rules")):
        if odd := sorted(found.keys() ^ parameters.keys()):
            raise ValueError(f"{name} not one a parameter: {', '.join(odd)}")
    return rules


def rated(rules: Mapping[str, Rule], weights: Mapping[str, Weight], rates: RatesSpec, width: int) -> dict[str, Rule]:
    """The rules with learning rates that follow the widths of their weights."""
    factors = {path: rates.factor(weights[path], width, rule.spectral_step) for path, rule in rules.items()}
    return {path: rule if factors[path] == 1.0 else rule.scaled(factors[path]) for path, rule in rules.items()}
