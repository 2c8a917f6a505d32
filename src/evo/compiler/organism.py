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
        for name in self.parts:
            block = self.get_submodule(name)
            f = partial(run, block) if isinstance(block, Mixer) else block
            x_BTD = self.wiring(self, name, x_BTD, f)
        return x_BTD


def pre(layer: Layer, name: str, x_BTD: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """x + f(N(x))."""
    return x_BTD + f(layer.get_submodule(f"{name}_norm")(x_BTD))


def post(layer: Layer, name: str, x_BTD: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """N(x + f(x))."""
    return layer.get_submodule(f"{name}_norm")(x_BTD + f(x_BTD))


def sandwich(layer: Layer, name: str, x_BTD: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """x + N'(f(N(x)))."""
    return x_BTD + layer.get_submodule(f"{name}_out_norm")(f(layer.get_submodule(f"{name}_norm")(x_BTD)))


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
        x_BTD = self._gather([outputs[name] for name in self.sources])
        for layer in self.run_order():
            x_BTD = layer(x_BTD, run)
        return x_BTD

    def run_order(self) -> list[nn.Module]:
        """Its layers as they run; a shared one stands there several times."""
        return [self.held(name) for name in self.order]

    def _gather(self, sources_BTD: list[Tensor]) -> Tensor:
        if len(sources_BTD) == 1:
            return sources_BTD[0]
        return sum_scaled(self.get_parameter("merge"), sources_BTD)


class Organism(nn.Module):
    """One model. The keys of its state dict are the paths of `plan.weights`; `plan` says what each is used for."""

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
        x_BTD = F.embedding(tokens_BT, self.embedding.get_parameter("weight"))
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
        holder = self.embedding if self.readout is None else self.readout
        logits_BTV = F.linear(h_BTD, holder.get_parameter("weight"))
        cap = self.plan.soft_cap
        return logits_BTV if cap is None else cap * torch.tanh(logits_BTV / cap)

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

    def _stage(self, name: str) -> Stage:
        stage = self.stages.held(name)
        assert isinstance(stage, Stage)
        return stage

    def _through(self, x_BTD: Tensor, run: Run) -> Tensor:
        outputs = {INPUT: x_BTD}
        for name in self.order:
            outputs[name] = self._stage(name)(outputs, run)
        last_BTD = outputs[self.order[-1]]
        return last_BTD if self.final_norm is None else self.final_norm(last_BTD)
