"""The language and the plan of RWKV-7's time mixing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, Scope, Spec

STREAMS = ("r", "w", "k", "v", "a", "g")
"""What reads a mixture of its own of each token and the one before it: receptance, decay, key, value, removal rate,
gate."""
Rank = Annotated[int | None, Field(ge=1, le=65536), Gene(4, 128, "x2", optional=True)]


@dataclass(frozen=True, kw_only=True)
class WKV7Plan(BlockPlan):
    """`heads` states of (head_dim, head_dim). given, taken: the signal of first values that it publishes, or reads."""

    builder: ClassVar[str] = "evo.blocks.wkv7.module:WKV7"
    heads: int
    head_dim: int
    eps: float
    given: str | None
    taken: str | None


class WKV7Spec(Spec):
    """S_t = S_{t-1} (diag(w_t) - k^_t^T (a_t k^_t)) + v_t^T k_t with token shift (RWKV-7, Peng et al. 2503.14456)."""

    kind: ClassVar[str | None] = "wkv7"

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Heads, each with its own state; they divide the width."""
    decay_rank: Rank = None
    """Width that the decay passes; width / 8, at least 8, if left out."""
    rate_rank: Rank = None
    """Width that the removal rate passes; the same if left out."""
    gate_rank: Rank = None
    """Width that the output gate passes; the same if left out."""
    value_rank: Rank = None
    """Width that the share of first values passes, where they are taken; the same if left out."""
    first_values: Literal["none", "give", "take"] = "none"
    """give: later layers may mix their values with those of this one. take: this one does, by a learned share of each
    channel. In RWKV-7, the first layer gives and all others take."""
    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 64e-5
    """Of the norm of each head's output."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width")
        elif scope.width == self.heads:
            message = "a head of one channel is 0 behind its norm, whatever it reads"
            yield Fault("EVO300", ("heads",), message, "lower heads")
        if self.first_values != "take" and self.value_rank is not None:
            yield Fault("EVO330", ("value_rank",), "no first values are taken here", "remove it", "warning")

    def plan(self, scope: Scope) -> WKV7Plan:
        width, head_dim = scope.width, scope.width // self.heads
        weights = self._weights(scope)
        name = f"first values ({width} channels)"
        gives, takes = self.first_values == "give", self.first_values == "take"
        cost = Cost(
            flops=matmul_flops(weights) + 10.0 * width * head_dim,
            state=width + width * head_dim,
            activations=7 * width + 8 * width,
        )
        return WKV7Plan(
            kind=self.label,
            weights=weights,
            cost=cost,
            inputs=(name,) if takes else (),
            outputs=(name,) if gives else (),
            has_state=True,
            heads=self.heads,
            head_dim=head_dim,
            eps=self.eps,
            given=name if gives else None,
            taken=name if takes else None,
        )

    def _weights(self, scope: Scope) -> tuple[Weight, ...]:
        width = scope.width
        common = max(8, width // 8)
        weights = [vector(f"{name}_mix", width, Init("uniform", 0.0, 1.0)) for name in STREAMS]
        weights += [linear(name, width, width) for name in ("r", "k", "v")]
        weights += low_rank("decay", width, self.decay_rank or common, Init("ramp", -6.0, -1.0))
        weights += low_rank("rate", width, self.rate_rank or common, ZEROS)
        weights += low_rank("gate", width, self.gate_rank or common)
        if self.first_values == "take":
            weights += low_rank("share", width, self.value_rank or common, ONES)
        return (
            *weights,
            vector("removal", width, Init("constant", 0.85)),
            vector("write", width, ONES),
            Weight("bonus", (self.heads, width // self.heads), Init("normal", 0.1), ("channel", "channel")),
            vector("norm_gain", width, ONES),
            vector("norm_bias", width, ZEROS),
            linear("o", width, width, scope.residual_gain, writes_residual=True),
        )


def low_rank(name: str, width: int, rank: int, base: Init | None = None) -> list[Weight]:
    """A map of the width to itself through `rank`, and what is added to it."""
    found = [linear(f"{name}_down", rank, width), linear(f"{name}_up", width, rank)]
    return [*found, *([vector(f"{name}_base", width, base)] if base else [])]
