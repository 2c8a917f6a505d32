"""Learning at test time: components updated together, each at a rate of its own, and taken back where it harms.

Rates follow the cosine of successive gradients, a multiplicative form of hypergradient descent (Baydin et al. 2018,
1703.04782, equation 8): a component whose gradients agree goes faster, one that swings goes slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.slime.feedback import SURPRISE
from evo.slime.messages import Bus, Message
from evo.slime.observability import MetricsCollector

UPDATE, SETBACK = "update", "setback"
"""Topics: the loss before each update; the loss that made one be taken back."""
SENDER = "adaptation"
FASTER = 0.2
"""How much faster agreement makes a component, at most, in one update."""
LEAST, MOST = 0.01, 10.0
"""Bounds of rates, in units of the first one."""


@dataclass
class Component:
    """Parameters that have one rate. before: their gradients at the last update, and none after a setback."""

    parameters: tuple[nn.Parameter, ...]
    rate: float
    before: tuple[Tensor, ...] = ()


class Adaptation:
    """Gradient descent on some parameters while a model is used.

    One backward pass serves all components, and their gradients are clipped together, so that none runs away from the
    others. What a bus tells of surprise scales an update: what was expected (0) teaches nothing, and from `fully` on it
    teaches at the full rate; without any message so far it does so too. A loss of more than `worse` times the best so
    far is a setback: the weights go back to where they were best, all rates are halved, and the bus is told at once.
    What is best counts from there on anew, so a world that has changed for the worse is learned after one setback.

    Args:
        components: parameters by the name of their component; none may be in two.
        bus: on which surprise is heard, and updates and setbacks are told.
        rate: of each component at first.
        clip: the largest norm of all gradients together.
        metrics: in which every update records `adaptation_loss`, and `adaptation_rate_NAME` of each component.
    """

    def __init__(
        self,
        components: Mapping[str, Sequence[nn.Parameter]],
        bus: Bus,
        rate: float = 1e-2,
        clip: float = 1.0,
        worse: float = 2.0,
        fully: float = 1.0,
        metrics: MetricsCollector | None = None,
    ) -> None:
        named = [parameter for own in components.values() for parameter in own]
        if len({id(parameter) for parameter in named}) < len(named) or not named:
            raise ValueError("components have parameters, each in one of them")
        self.components = {name: Component(tuple(own), rate) for name, own in components.items()}
        self.bus, self.rate, self.clip, self.worse, self.fully, self.metrics = bus, rate, clip, worse, fully, metrics
        self.share = 1.0
        self.best: float | None = None
        self._kept = self._weights()
        bus.subscribe(SURPRISE, self._on_surprise)

    def update(self, loss: Tensor) -> bool:
        """Take one step down a loss >= 0 with a graph; whether it was no setback."""
        value = float(loss.detach())
        self._tell(UPDATE, value)
        if not math.isfinite(value) or (self.best is not None and value > self.worse * self.best):
            self._set_back(value)
            return False
        if self.best is None or value <= self.best:
            self.best, self._kept = value, self._weights()
        gradients = self._gradients(loss)
        for name, component in self.components.items():
            self._move(component, gradients[name])
        return True

    @torch.no_grad()
    def _move(self, component: Component, gradients: tuple[Tensor, ...]) -> None:
        if component.before:
            factor = 1.0 + FASTER * _cosine(component.before, gradients)
            component.rate = min(max(component.rate * factor, LEAST * self.rate), MOST * self.rate)
        component.before = gradients
        for parameter, gradient in zip(component.parameters, gradients, strict=True):
            parameter.sub_(self.share * component.rate * gradient)

    def _gradients(self, loss: Tensor) -> dict[str, tuple[Tensor, ...]]:
        """By component, clipped together; zero where the loss does not depend on a parameter."""
        everything = [p for component in self.components.values() for p in component.parameters]
        found = torch.autograd.grad(loss, everything, allow_unused=True, materialize_grads=True)
        norm = torch.stack([gradient.norm() for gradient in found]).norm()
        clipped = iter([gradient * (self.clip / norm.clamp_min(self.clip)) for gradient in found])
        return {name: tuple(next(clipped) for _ in c.parameters) for name, c in self.components.items()}

    @torch.no_grad()
    def _set_back(self, value: float) -> None:
        for name, component in self.components.items():
            for parameter, kept in zip(component.parameters, self._kept[name], strict=True):
                parameter.copy_(kept)
            component.rate, component.before = max(component.rate / 2, LEAST * self.rate), ()
        self.best = None
        self._tell(SETBACK, value, priority=1)

    def _weights(self) -> dict[str, list[Tensor]]:
        return {name: [p.detach().clone() for p in c.parameters] for name, c in self.components.items()}

    def _on_surprise(self, message: Message) -> None:
        self.share = min(max(message.value, 0.0) / self.fully, 1.0)

    def _tell(self, topic: str, value: float, priority: int = 0) -> None:
        if self.metrics is not None and topic == UPDATE:
            rates = {f"adaptation_rate_{name}": component.rate for name, component in self.components.items()}
            self.metrics.record_all({"adaptation_loss": value, **rates})
        self.bus.publish(Message(topic, value, SENDER, priority))
        self.bus.deliver()


def _cosine(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Of two lists of tensors as vectors; 0 where one is nothing."""
    a, b = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (one, other))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0, eps=1e-30))
