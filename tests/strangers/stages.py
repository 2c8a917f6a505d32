"""Stages of another package, a layer and a gain.

`twin`: two layers with one mixer, which it can neither cut nor lengthen. `coder`: no layers, a loss. `reading`: a
second input by name.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.layers.gains import GainSpec
from evo.blocks.stages.layers.module import Layers
from evo.blocks.stages.layers.plan import LayersPlan
from evo.blocks.stages.layers.spec import BlocksSpec
from evo.blocks.stages.stage import Stage
from evo.dsl.genes import FIXED, Gene
from evo.dsl.layers import Branch, LayerPlan, StagePlan, Sublayer
from evo.dsl.organism import Name, StageSpec
from evo.dsl.paths import MERGE
from evo.dsl.plan import Cost, Init, Weight, gains, linear, matmul_flops, vector
from evo.dsl.references import mixer_problems, plan_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, OrNumber, Ref, RoleOf, Scope, Sources, Spec


class TwinSpec(StageSpec):
    """A mixer, twice."""

    kind: ClassVar[str | None] = "twin"

    twin: Annotated[Name | Spec, RoleOf("mixer"), Ref()]
    """The mixer."""

    @property
    def depth(self) -> int:
        return 2

    @property
    def layer_names(self) -> tuple[str, ...]:
        return ("0", "1")

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        yield self.twin, 2

    def problems(self, scope: Scope) -> Iterator[Fault]:
        return self._run().problems(scope)

    def plan(self, scope: Scope) -> LayersPlan:
        return self._run().plan(scope)

    def _run(self) -> BlocksSpec:
        return BlocksSpec(name=self.name, from_=self.from_, repeat=2, mix=(self.twin,))


@dataclass(frozen=True, kw_only=True)
class CoderPlan(StagePlan):
    """A code of `bits` numbers a token."""

    builder: ClassVar[str] = "strangers.stages:Coder"
    bits: int
    free: float


class CoderSpec(StageSpec):
    """x' = decode(sigmoid(encode(x))), each number a chance, its distance from a fair coin a loss (Fleuret 2025)."""

    kind: ClassVar[str | None] = "coder"

    bits: Annotated[int, Field(ge=1, le=64), Gene(1, 16, "+1")] = 8
    """The numbers of a token's code."""
    free_bits: Annotated[float, Field(ge=0), Gene(0.0, 2.0, "linear")] = 0.5
    """What the code may say without a loss, in bits a token."""

    def plan(self, scope: Scope) -> CoderPlan:
        reads = self.reads(scope.before)
        sources = len(dict(reads)["x"])
        weights = (linear("encode", self.bits, scope.width), linear("decode", scope.width, self.bits))
        return CoderPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(*weights, *((gains(MERGE, sources, scope.width),) if sources > 1 else ())),
            cost=Cost(flops=matmul_flops(weights), activations=scope.width + 2 * self.bits),
            losses=("kl",),
            bits=self.bits,
            free=self.free_bits * math.log(2),
        )


class Coder(Stage):
    """See the spec."""

    encode: nn.Parameter
    decode: nn.Parameter

    def __init__(self, plan: CoderPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.free = plan.free

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        logits_BTN = flow.project(self.merged(inputs["x"]), self.encode)
        chance_BTN = logits_BTN.sigmoid()
        entropy_BTN = F.softplus(logits_BTN) - chance_BTN * logits_BTN
        nats = (math.log(2) - entropy_BTN).sum(-1).mean()
        flow.add_loss("kl", (nats - self.free).clamp_min(0.0), 0.1)
        return Residual(flow.project(chance_BTN - 0.5, self.decode))


@dataclass(frozen=True, kw_only=True)
class ReadingPlan(LayersPlan):
    """A run of layers that puts its second input among the signals."""

    builder: ClassVar[str] = "strangers.stages:Reading"


class ReadingSpec(BlocksSpec):
    """A run of layers with a second input: what `kv_from` names is there for its mixers as `kv`."""

    kind: ClassVar[str | None] = "reading"

    kv_from: Annotated[
        Annotated[tuple[Name, ...], Field(min_length=1)] | None, AsTuple, ListOf(bare=True), Sources("kv"), FIXED
    ] = None
    """The stages whose sum its mixers may read as keys and values; what it reads itself, if left out."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from super().problems(scope)
        if self.streams is not None:
            yield Fault("EVO357", ("streams",), "what reads a second input has one stream", "remove it")

    def plan(self, scope: Scope) -> ReadingPlan:
        plan = super().plan(scope)
        common = {field.name: getattr(plan, field.name) for field in fields(plan)}
        return ReadingPlan(**{**common, "outputs": ("kv",)})


class Reading(Layers):
    """See the spec."""

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D), the last sum left open."""
        read = inputs.get("kv", inputs["x"])
        flow.signals["kv"] = torch.stack(list(read)).sum(0)
        return super().run(inputs, flow)


class LoneSpec(Spec):
    """A layer of one block without a norm: x <- x + gain * f(x)."""

    kind: ClassVar[str | None] = "lone"

    block: Annotated[Name | Spec, RoleOf("mixer"), Ref()]
    """A mixer."""
    gain: Annotated[float | Spec, RoleOf("gain"), OrNumber(), FIXED] = 1.0
    """What its output is multiplied by."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        return mixer_problems(self.block, scope, ("block",))

    def plan(self, scope: Scope) -> LayerPlan:
        gain = self.gain.gain("gain", scope) if isinstance(self.gain, GainSpec) else self.gain
        is_learned = isinstance(gain, Weight)
        return LayerPlan(
            kind=self.label,
            weights=(gain,) if is_learned else (),
            children=(("block", plan_mixer(self.block, scope)),),
            sublayers=(Sublayer((Branch("block", gain="gain" if is_learned else gain),)),),  # type: ignore[arg-type]
        )


class HalfGain(GainSpec):
    """A learned gain that begins at a half."""

    kind: ClassVar[str | None] = "half"

    def gain(self, name: str, scope: Scope) -> Weight:
        return vector(name, scope.width, Init("constant", 0.5))
