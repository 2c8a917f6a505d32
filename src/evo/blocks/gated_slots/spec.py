"""The language and the plan of gated slots."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec, RMSNormSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import BlockPlan, Cost, Weight, linear, matmul_flops
from evo.dsl.spec import Fault, RoleOf, Scope, Spec, dividing


@dataclass(frozen=True, kw_only=True)
class GatedSlotsPlan(BlockPlan):
    """`heads` queries over `kv_heads` memories of `slots` keys and values."""

    builder: ClassVar[str] = "evo.blocks.gated_slots.module:GatedSlots"
    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    slots: int
    write: str
    temperature: float
    act: str
    out_act: str
    scale: float


class GatedSlotsSpec(Spec):
    """Softmax attention over slots that tokens are written to by shares (GSA, 2409.07146; ABC, 2110.02488)."""

    kind: ClassVar[str | None] = "gated_slots"
    widths_apart: ClassVar[bool] = True

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Query heads."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True), WIDENING] = None
    """Heads with slots of their own, each read by heads / kv_heads queries; as many as heads if left out."""
    key_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of a head's queries and keys; width / heads if left out."""
    value_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 256, "x2", optional=True)] = None
    """Width of a head's values; width / heads if left out."""
    slots: Annotated[int, Field(ge=1, le=65536), Gene(4, 128, "x2")] = 64
    """Slots of a head."""
    write: Literal["forget", "softmax"] = "forget"
    """forget: each slot forgets a share of what it holds and takes the token in its place (GSA). softmax: a slot is a
    mean of all tokens so far by the exponentials of their logits (ABC)."""
    temperature: Annotated[float, Field(gt=0, le=1e4), Gene(1, 32, "scale")] = 8.0
    """What the log of the share that stays is divided by."""
    act: Literal["none", "silu", "relu"] = "silu"
    """What queries, keys and values pass."""
    out_act: Literal["none", "silu"] = "silu"
    """What is read passes before its norm."""
    scale: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What scores of slots are multiplied by; key_dim ** -0.5 if left out."""
    norm: Annotated[Literal["none", "rms"] | Spec, RoleOf("norm")] = "rms"
    """A norm of what is read: rms is that of each head with one set of gains; or any, over heads, groups or all
    channels (GSA: one group)."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.write == "forget" else frozenset({"temperature"})

    def _dims(self, scope: Scope) -> tuple[int, int]:
        share = scope.width // self.heads
        return self.key_dim or share, self.value_dim or share

    @property
    def _norm(self) -> NormSpec | None:
        if isinstance(self.norm, NormSpec):
            return self.norm
        return RMSNormSpec() if self.norm == "rms" else None

    def problems(self, scope: Scope) -> Iterator[Fault]:
        free = self.key_dim is None or self.value_dim is None
        if free and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set key_dim and value_dim")
            return
        if self.heads % (self.kv_heads or self.heads):
            message = f"{self.kv_heads} kv_heads do not divide {self.heads} heads"
            yield Fault("EVO301", ("kv_heads",), message, dividing(self.heads))
        if isinstance(self.norm, NormSpec):
            yield from self.norm.head_problems(self.heads, self._dims(scope)[1], ("norm",))

    def plan(self, scope: Scope) -> GatedSlotsPlan:
        key_dim, value_dim = self._dims(scope)
        kv_heads = self.kv_heads or self.heads
        weights = self._weights(scope, kv_heads, key_dim, value_dim)
        inner = 3 * kv_heads * self.slots + self.heads * (2 * self.slots + value_dim)
        cost = Cost(
            flops=matmul_flops(weights) + 2.0 * self.slots * (key_dim + value_dim) * (kv_heads + self.heads),
            state=kv_heads * self.slots * (key_dim + value_dim + (self.write == "softmax")),
            activations=scope.width + self.heads * key_dim + kv_heads * (key_dim + value_dim) + inner,
        )
        children: tuple[tuple[str, BlockPlan], ...] = ()
        if norm := self._norm:
            children = (("norm", norm.over_heads(self.heads, value_dim)),)
        return GatedSlotsPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=children,
            has_state=True,
            heads=self.heads,
            kv_heads=kv_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            slots=self.slots,
            write=self.write,
            temperature=self.temperature,
            act=self.act,
            out_act=self.out_act,
            scale=key_dim**-0.5 if self.scale is None else self.scale,
        )

    def _weights(self, scope: Scope, kv_heads: int, key_dim: int, value_dim: int) -> tuple[Weight, ...]:
        return (
            linear("q", self.heads * key_dim, scope.width),
            linear("k", kv_heads * key_dim, scope.width),
            linear("v", kv_heads * value_dim, scope.width),
            linear("slot", kv_heads * self.slots, scope.width),
            linear("o", scope.given, self.heads * value_dim, scope.residual_gain, writes_residual=True),
        )
