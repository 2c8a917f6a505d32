"""What predicts tokens beyond the next: heads side by side, or modules one behind another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from evo.blocks.ahead.spec import AheadPlan, ModulePlan
from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.stage import Stage
from evo.dsl.spec import INPUT, TOKENS
from evo.kernels.dispatch import KernelCall

Inputs = Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class Trunk:
    """What predictions are made from: what the last stage reads and gives, and the norm that stands before the readout.

    inputs: by slot, (B, T, D) each. last: the residual stream behind it.
    """

    inputs: Inputs
    last: Residual
    normed: Callable[[Residual], Tensor]


@dataclass(frozen=True)
class Ends:
    """What stands at both ends of an organism while it drafts.

    embedded: tokens (B, T) int64, the first of which stands at a position, as vectors (B, T, D). likeliest: vectors for
    the readout (B, D) -> the likeliest tokens (B,) int64.
    """

    embedded: Callable[[Tensor, int], Tensor]
    likeliest: Callable[[Tensor], Tensor]


class Ahead(Block, ABC):
    """Vectors for the readout, for tokens further and further on."""

    def __init__(self, plan: AheadPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.loss_weight = plan.loss_weight
        self.parts = tuple(children.values())

    @abstractmethod
    def vectors(self, trunk: Trunk, flow: Flow) -> Iterator[Tensor]:
        """(B, T - k, D) for k = 1, 2, ...: row t predicts the token k places behind the one after t."""

    @abstractmethod
    def drafts(self, trunk: Trunk, after_BT: Tensor, places: int, ends: Ends, flow: Flow) -> Tensor:
        """The likeliest tokens behind the last of `after_BT`, (B, K) int64, K <= places, while decoding.

        trunk: of the T positions that have come since the last call. after_BT: the token after each of these.
        """

    @abstractmethod
    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """The kernel problems that it would pose for such an input; see `Stage.layer_problems`."""


class Parallel(Ahead):
    """Heads that read what the last stage reads."""

    def vectors(self, trunk: Trunk, flow: Flow) -> Iterator[Tensor]:
        for places, head in enumerate(self.parts, start=1):
            assert isinstance(head, Stage)
            yield trunk.normed(head.run(trunk.inputs, flow))[:, :-places]

    def drafts(self, trunk: Trunk, after_BT: Tensor, places: int, ends: Ends, flow: Flow) -> Tensor:
        found: list[Tensor] = []
        for head in self.parts:  # all of them: each keeps what it has seen
            assert isinstance(head, Stage)
            found.append(ends.likeliest(trunk.normed(head.run(trunk.inputs, flow))[:, -1]))
        return torch.stack(found[:places], dim=1)

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        for head in self.parts:
            assert isinstance(head, Stage)
            yield from head.layer_problems(x_BTD, flow)


class Sequential(Ahead):
    """Modules that read the one before and the token before the one that they predict."""

    def vectors(self, trunk: Trunk, flow: Flow) -> Iterator[Tensor]:
        h_BTD, embedding_BTD = trunk.last.value(), flow.signals[INPUT]
        for places, module in enumerate(self.parts, start=1):
            assert isinstance(module, Module)
            here = _cut(flow, places)
            last = module.run(h_BTD[:, :-1], embedding_BTD[:, places:], trunk.inputs, here)
            h_BTD = last.value()
            yield module.normed(last, here)

    def drafts(self, trunk: Trunk, after_BT: Tensor, places: int, ends: Ends, flow: Flow) -> Tensor:
        """A module reads what is not known yet as its forerunners draft it, and keeps that: drafts alone show it."""
        h_BTD, found = trunk.last.value(), after_BT
        for place, module in enumerate(self.parts[:places], start=1):
            assert isinstance(module, Module)
            here_BT = found[:, place - 1 :]
            here = replace(flow, signals={**flow.signals, TOKENS: here_BT})
            last = module.run(h_BTD, ends.embedded(here_BT, flow.position + place), trunk.inputs, here)
            h_BTD = last.value()
            found = torch.cat((found, ends.likeliest(module.normed(last, here)[:, -1])[:, None]), dim=1)
        return found[:, after_BT.shape[1] :]

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        for places, module in enumerate(self.parts, start=1):
            assert isinstance(module, Module)
            yield from module.layer.layer_problems(x_BTD[:, places:], flow)


class Module(Block):
    """layer(join [norm(h); norm(e)])."""

    join: nn.Parameter

    def __init__(self, plan: ModulePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        layer = children["layer"]
        assert isinstance(layer, Stage)
        self.layer: Stage = layer

    def run(self, h_BTD: Tensor, e_BTD: Tensor, inputs: Inputs, flow: Flow) -> Residual:
        """The stream behind its layer. inputs: those of the last stage, whose further ones the layer reads too."""
        joined = torch.cat((self._norm("stream_norm")(h_BTD, flow), self._norm("token_norm")(e_BTD, flow)), dim=-1)
        x_BTD = flow.project(joined, self.join).to(h_BTD.dtype)
        others = {slot: [y_BTD[:, : x_BTD.shape[1]] for y_BTD in found] for slot, found in inputs.items()}
        return self.layer.run({**others, "x": [x_BTD]}, flow)

    def normed(self, last: Residual, flow: Flow) -> Tensor:
        """What the readout reads."""
        return last.normed(self._norm("norm"), flow)[1] if "norm" in self._modules else last.value()

    def _norm(self, name: str) -> Norm:
        norm = self.child(name)
        assert isinstance(norm, Norm)
        return norm


def _cut(flow: Flow, places: int) -> Flow:
    """The pass as the first T - places positions see it, each beside the token so many places on."""
    signals = {name: signal[:, :-places] for name, signal in flow.signals.items()}
    signals[TOKENS] = flow.signals[TOKENS][:, places:]
    segments = flow.segments_BT
    return replace(flow, signals=signals, segments_BT=None if segments is None else segments[:, :-places])
