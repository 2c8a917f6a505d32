"""The built organism: embedding, a graph of stages, readout; in parallel and step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Mixer, State, parameter, sum_scaled
from evo.compiler.plan import LayerPlan, Plan, StagePlan
from evo.compiler.resolve import INPUT
from evo.dsl.plan import BlockPlan, Weight
from evo.kernels.dispatch import AUTO
from evo.kernels.fused import embed, linear_cross_entropy, soft_capped

Make = Callable[[BlockPlan], Block]
Run = Callable[[Mixer, Tensor], Tensor]
"""How a mixer is run: on a whole sequence, or on a chunk with its state."""


@dataclass(frozen=True)
class OrganismState(State):
    """The state of every layer's mixer in the order they run; `seen` is the next token's position."""

    layers: tuple[State, ...]
    seen: int


class Weights(nn.Module):
    """A few parameters, and children under names of any spelling (a stage may be called `training` or `keys`)."""

    def __init__(self, weights: Iterable[Weight] = ()) -> None:
        super().__init__()
        for weight in weights:
            self.register_parameter(weight.name, parameter(weight))

    def adopt(self, name: str, child: nn.Module) -> None:
        """Hold a child under a name that may be one of nn.Module's own."""
        self._modules[name] = child

    def train(self, mode: bool = True) -> Self:
        """As nn.Module's, which would trip over a child called `training`."""
        self.__dict__["training"] = mode
        for child in self.children():
            child.train(mode)
        return self

    def held(self, name: str) -> nn.Module:
        """The child adopted under this name."""
        child = self._modules[name]
        assert child is not None
        return child


class Layer(nn.Module):
    """A mixer and a feed-forward on the residual stream.

    pre: x + f(N(x)). post: N(x + f(x)). sandwich: x + N'(f(N(x))).
    """

    def __init__(self, plan: LayerPlan, make: Make) -> None:
        super().__init__()
        self.wiring = WIRINGS[plan.place]
        self.parts = tuple(name for name, _ in plan.sublayers())
        for path, block in plan.blocks():
            self.add_module(path.removeprefix(f"{plan.path}."), make(block))

    def forward(self, x_BTD: Tensor, run: Run) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.carry(Residual(x_BTD), run).value()

    def carry(self, residual: Residual, run: Run) -> Residual:
        """`forward` on a residual stream whose last sum may still be open."""
        for name in self.parts:
            block = self.get_submodule(name)
            f = partial(run, block) if isinstance(block, Mixer) else block
            residual = self.wiring(self, name, residual, f)
        return residual


@dataclass(frozen=True)
class Residual:
    """A residual stream, (B, T, D): x, or x + y with the sum left open so that the next norm takes it along."""

    x_BTD: Tensor
    y_BTD: Tensor | None = None

    def value(self) -> Tensor:
        """The stream as one tensor."""
        return self.x_BTD if self.y_BTD is None else self.x_BTD + self.y_BTD

    def normed(self, norm: nn.Module) -> tuple[Tensor, Tensor]:
        """The stream as one tensor, and its norm."""
        if self.y_BTD is None:
            return self.x_BTD, norm(self.x_BTD)
        after_sum: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = getattr(norm, "after_sum", None)
        if after_sum is not None:
            return after_sum(self.x_BTD, self.y_BTD)
        x_BTD = self.value()
        return x_BTD, norm(x_BTD)


def pre(layer: Layer, name: str, residual: Residual, f: Callable[[Tensor], Tensor]) -> Residual:
    """x + f(N(x))."""
    x_BTD, h_BTD = residual.normed(layer.get_submodule(f"{name}_norm"))
    return Residual(x_BTD, f(h_BTD))


def post(layer: Layer, name: str, residual: Residual, f: Callable[[Tensor], Tensor]) -> Residual:
    """N(x + f(x))."""
    x_BTD = residual.value()
    return Residual(Residual(x_BTD, f(x_BTD)).normed(layer.get_submodule(f"{name}_norm"))[1])


def sandwich(layer: Layer, name: str, residual: Residual, f: Callable[[Tensor], Tensor]) -> Residual:
    """x + N'(f(N(x)))."""
    x_BTD, h_BTD = residual.normed(layer.get_submodule(f"{name}_norm"))
    return Residual(x_BTD, layer.get_submodule(f"{name}_out_norm")(f(h_BTD)))


WIRINGS = {"pre": pre, "post": post, "sandwich": sandwich}


class Stage(Weights):
    """A run of layers on the sum of its sources, each scaled by learned gains if there are several.

    Layers of one path are one module.
    """

    def __init__(self, plan: StagePlan, make: Make) -> None:
        super().__init__([plan.merge] if plan.merge is not None else [])
        self.sources = plan.sources
        self.order = tuple(layer.path.rpartition(".")[2] for layer in plan.layers)
        for name, layer in zip(self.order, plan.layers, strict=True):
            if name not in self._modules:
                self.adopt(name, Layer(layer, make))

    def forward(self, outputs: dict[str, Tensor], run: Run) -> Tensor:
        """From the outputs of earlier stages, each (B, T, D), to its own."""
        return self.carry(outputs, run).value()

    def carry(self, outputs: dict[str, Tensor], run: Run) -> Residual:
        """`forward`, the last sum left open."""
        residual = Residual(self._gather([outputs[name] for name in self.sources]))
        for layer in self.run_order():
            assert isinstance(layer, Layer)
            residual = layer.carry(residual, run)
        return residual

    def run_order(self) -> list[nn.Module]:
        """Its layers as they run; a shared one stands there several times."""
        return [self.held(name) for name in self.order]

    def _gather(self, sources_BTD: list[Tensor]) -> Tensor:
        if len(sources_BTD) == 1:
            return sources_BTD[0]
        return sum_scaled(self.get_parameter("merge"), sources_BTD)


class Organism(nn.Module):
    """One model. The keys of its state dict are the paths of `plan.weights`; `plan` says what each is used for.

    backend: which kernels run its embedding and its loss.
    """

    backend: str = AUTO

    def __init__(self, plan: Plan, make: Make) -> None:
        super().__init__()
        self.plan = plan
        self.embedding = Weights(plan.embedding)
        self.stages = Weights()
        for stage in plan.stages:
            self.stages.adopt(stage.name, Stage(stage, make))
        self.order = tuple(stage.name for stage in plan.stages)
        self.final_norm = None if plan.final_norm is None else make(plan.final_norm)
        self.readout = None if plan.readout is None else Weights([plan.readout])

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits for the token after each, (B, T) int64 -> (B, T, V)."""
        return self.forward_embedded(self.embed(tokens_BT))

    def forward_embedded(self, x_BTD: Tensor) -> Tensor:
        """The same from embeddings, (B, T, D) -> (B, T, V): what probes differentiate through."""
        return self.read(self.hidden(x_BTD))

    def embed(self, tokens_BT: Tensor, offset: int = 0) -> Tensor:
        """What enters the first stage, (B, T) int64 -> (B, T, D). Raises ValueError beyond learned positions."""
        x_BTD = embed(tokens_BT, self.embedding.get_parameter("weight"), backend=self.backend)
        if "position" not in self.embedding._parameters:
            return x_BTD
        table_TD, end = self.embedding.get_parameter("position"), offset + tokens_BT.shape[1]
        if end > table_TD.shape[0]:
            raise ValueError(f"{end} tokens exceed the {table_TD.shape[0]} positions this organism has learned")
        return x_BTD + table_TD[offset:end]

    def hidden(self, x_BTD: Tensor) -> Tensor:
        """What the readout reads, (B, T, D) -> (B, T, D)."""
        return self._through(x_BTD, lambda mixer, x: mixer(x))

    def read(self, h_BTD: Tensor) -> Tensor:
        """Logits, (..., D) -> (..., V), in the dtype of the readout's product."""
        return soft_capped(F.linear(h_BTD, self._readout_weight()), self.plan.soft_cap)

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
        """Mean cross-entropy in nats of `targets_BT` (B, T) int64 given `tokens_BT`: a float32 scalar.

        weights_BT: float32, how much each target counts, 0 for none at all: the mean is sum(w l) / sum(w).
        """
        h_ND = self.hidden(self.embed(tokens_BT)).flatten(0, 1)
        weight_VD, targets_N = self._readout_weight(), targets_BT.flatten()
        if weights_BT is not None:
            losses_N = F.cross_entropy(self.read(h_ND).float(), targets_N, reduction="none")
            return (losses_N * weights_BT.flatten()).sum() / weights_BT.sum()
        return linear_cross_entropy(h_ND, weight_VD, targets_N, self.plan.soft_cap, backend=self.backend)

    def initial_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> OrganismState:
        """The state before the first token; device and dtype default to those of the weights."""
        weight = self.embedding.get_parameter("weight")
        where, what = device or weight.device, dtype or weight.dtype
        return OrganismState(tuple(mixer.initial_state(batch, where, what) for mixer in self.mixers()), 0)

    def extend(self, tokens_BT: Tensor, state: OrganismState) -> tuple[Tensor, OrganismState]:
        """The next T >= 1 tokens after `state`: logits (B, T, V) and the state after them."""
        before, after = iter(state.layers), list[State]()

        def run(mixer: Mixer, x_BTD: Tensor) -> Tensor:
            y_BTD, new = mixer.extend(x_BTD, next(before))
            after.append(new)
            return y_BTD

        h_BTD = self._through(self.embed(tokens_BT, state.seen), run)
        return self.read(h_BTD), OrganismState(tuple(after), state.seen + tokens_BT.shape[1])

    def mixers(self) -> list[Mixer]:
        """The mixer of every layer in the order they run; shared ones stand there several times."""
        layers = [layer for name in self.order for layer in self._stage(name).run_order()]
        found = [layer.get_submodule("mixer") for layer in layers]
        return [mixer for mixer in found if isinstance(mixer, Mixer)]

    def _readout_weight(self) -> nn.Parameter:
        holder = self.embedding if self.readout is None else self.readout
        return holder.get_parameter("weight")

    def _stage(self, name: str) -> Stage:
        stage = self.stages.held(name)
        assert isinstance(stage, Stage)
        return stage

    def _through(self, x_BTD: Tensor, run: Run) -> Tensor:
        outputs = {INPUT: x_BTD}
        for name in self.order[:-1]:
            outputs[name] = self._stage(name)(outputs, run)
        last = self._stage(self.order[-1]).carry(outputs, run)
        return last.value() if self.final_norm is None else last.normed(self.final_norm)[1]
