"""The language and the plan of a latent stage."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.attention.spec import AttentionSpec
from evo.blocks.norm.spec import NormSpec
from evo.blocks.stages.layers.spec import short_layer
from evo.dsl.genes import WIDENING, Gene
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.organism import StageSpec
from evo.dsl.paths import MERGE
from evo.dsl.plan import BlockPlan, Cost, Init, Weight, gains, linear, matmul_flops, vector
from evo.dsl.spec import DEFAULT, KV, Fault, RoleOf, Scope, Spec

NAT = math.log(2.0)
"""One bit."""
MOST_BITS = 16


@dataclass(frozen=True, kw_only=True)
class EncoderPlan(LayerPlan):
    """The layer that reads the whole text. It runs in training alone."""

    is_layer: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class LatentPlan(StagePlan):
    """A code of `bits` bits a token, of which `free` nats may be told for nothing."""

    builder: ClassVar[str] = "evo.blocks.stages.latent.module:Latent"
    bits: int
    free: float

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        return iter(())


class LatentStageSpec(StageSpec):
    """A random code for each token, as vectors of the stream's width: the Free Transformer's (Fleuret 2025).

    In training, a layer that sees the whole text draws it, and what it tells beyond `free_bits` is a loss. Whatever is
    scored or generated draws it from a fair coin.
    """

    kind: ClassVar[str | None] = "latent"

    bits: Annotated[int, Field(ge=1, le=MOST_BITS), Gene(1, 8, "+1")] = 8
    """The bits of a token's code: it is one of 2^bits vectors."""
    free_bits: Annotated[float, Field(ge=0, le=MOST_BITS), Gene(0.0, 2.0, "linear")] = 0.5
    """How many bits a token the encoder may tell without a loss."""
    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Query heads of the encoder's attention, which is not causal."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True), WIDENING] = None
    """Its key and value heads; as many as heads if left out."""
    ffn: Annotated[Spec, RoleOf("ffn", default="gated")] = DEFAULT
    """Its feed-forward."""

    @property
    def reads_position(self) -> bool:
        return True

    @property
    def copies_norm(self) -> bool:
        return True

    def problems(self, scope: Scope) -> Iterator[Fault]:
        for fault in self._attention().problems(self._scope(scope)):
            yield fault if fault.path[:1] in (("heads",), ("kv_heads",)) else replace(fault, path=())
        faults = list(self.ffn.problems(scope))
        yield from (replace(fault, path=("ffn", *fault.path)) for fault in faults)
        if all(fault.severity == "warning" for fault in faults):
            yield from self._ffn_faults(self.ffn.plan(scope))
        if self.free_bits >= self.bits:
            message = f"a code of {self.bits} bits tells no more than that, so nothing keeps it from telling all"
            yield Fault("EVO351", ("free_bits",), message, "lower free_bits")

    def plan(self, scope: Scope) -> LatentPlan:
        reads, width = self.reads(scope.before), scope.width
        sources = len(dict(reads)["x"])
        maps = (linear("encode", self.bits, width), _codes(2**self.bits, width))
        encoder, end = self._encoder(self._scope(scope))
        return LatentPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(
                vector("query", width, Init("normal", 0.01)),
                *maps,
                *((gains(MERGE, sources, width),) if sources > 1 else ()),
            ),
            cost=Cost(flops=matmul_flops(maps) + 4.0 * self.bits * 2**self.bits, activations=width + 2 * 2**self.bits),
            children=(("encoder", encoder), ("encoder_norm", end)),
            outputs=(KV,),
            losses=("kl",),
            bits=self.bits,
            free=self.free_bits * NAT,
        )

    def _attention(self) -> AttentionSpec:
        return AttentionSpec(heads=self.heads, kv_heads=self.kv_heads, causal=False)

    def _scope(self, scope: Scope) -> Scope:
        return replace(scope, kv="alone")

    def _encoder(self, scope: Scope) -> tuple[EncoderPlan, BlockPlan]:
        """The layer that queries the stream, and the norm behind it. Decoding keeps nothing of it."""
        attention, ffn, norm = self._attention().plan(scope), self.ffn.plan(scope), scope.norm
        assert isinstance(norm, NormSpec)
        attention = replace(attention, has_state=False, cost=replace(attention.cost, cache_per_token=0))
        blocks = [("mixer", attention), *([("ffn", ffn)] if ffn is not None else [])]
        layer = short_layer(blocks, norm.plan(scope), "pre")
        encoder = EncoderPlan(kind=layer.kind, children=layer.children, sublayers=layer.sublayers, wiring=layer.wiring)
        return encoder, norm.plan(scope)

    def _ffn_faults(self, plan: BlockPlan | None) -> Iterator[Fault]:
        """What would stop decoding: a feed-forward that keeps a state, which no decoder would fill."""
        if plan is not None and any(block.has_state for _, block in plan.named_blocks("")):
            message = "the encoder is not there while decoding, so its feed-forward cannot keep a state"
            yield Fault("EVO351", ("ffn",), message, "choose another feed-forward")


def _codes(count: int, width: int) -> Weight:
    """The vector of each code, as a map from one-hot codes."""
    return linear("codes", width, count)
