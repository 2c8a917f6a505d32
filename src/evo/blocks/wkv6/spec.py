"""The language and the plan of RWKV-6's time mixing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.wkv7.spec import Rank, low_rank
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, Scope, Spec

STREAMS = ("w", "k", "v", "r", "g")
"""What reads a mixture of its own of each token and the one before it: decay (if it reads any), key, value, receptance,
gate."""


@dataclass(frozen=True, kw_only=True)
class WKV6Plan(BlockPlan):
    """`heads` states of (head_dim, head_dim)."""

    builder: ClassVar[str] = "evo.blocks.wkv6.module:WKV6"
    heads: int
    head_dim: int
    eps: float


class WKV6Spec(Spec):
    """S_t = diag(w_t) S_{t-1} + k_t^T v_t, read before the write with a bonus; decay and token shift depend on the
    data (RWKV-6, Peng et al. 2404.05892) or do not (RWKV-5, the same paper)."""

    kind: ClassVar[str | None] = "wkv6"

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Heads, each with its own state; they divide the width."""
    dynamic: bool = True
    """Whether decay and token shift depend on the data (RWKV-6); RWKV-5 has one decay and four shares a channel."""
    decay_rank: Rank = None
    """Width that the decay passes; width / 8, at least 8, if left out."""
    shift_rank: Rank = None
    """Width that each stream's mixture of a token and the one before passes; width / 16, at least 8, if left out."""
    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 64e-5
    """Of the norm of each head's output."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.dynamic else frozenset({"decay_rank", "shift_rank"})

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width")
        elif scope.width == self.heads:
            message = "a head of one channel is 0 behind its norm, whatever it reads"
            yield Fault("EVO300", ("heads",), message, "lower heads")

    def plan(self, scope: Scope) -> WKV6Plan:
        width, head_dim = scope.width, scope.width // self.heads
        weights = self._weights(scope)
        cost = Cost(
            flops=matmul_flops(weights) + 6.0 * width * head_dim,
            state=width + width * head_dim,
            activations=6 * width + 8 * width,
        )
        return WKV6Plan(
            kind=self.label,
            weights=weights,
            cost=cost,
            has_state=True,
            heads=self.heads,
            head_dim=head_dim,
            eps=self.eps,
        )

    def _weights(self, scope: Scope) -> tuple[Weight, ...]:
        width, rates, shares = scope.width, Init("ramp", -6.0, -1.0), Init("uniform", 0.0, 1.0)
        streams = STREAMS if self.dynamic else STREAMS[1:]
        own = [Weight("stream_mix", (len(streams), width), shares, ("stack", "channel"))]
        if self.dynamic:
            rank, count = self.shift_rank or max(8, width // 16), len(streams)
            up = Weight("mix_up", (count, width, rank), Init("normal", rank**-0.5), ("stack", "out", "in"), "matrix")
            own = [vector("x_mix", width, shares), *own, linear("mix_down", count * rank, width), up]
        through = self.decay_rank or max(8, width // 8)
        decay = low_rank("decay", width, through, rates) if self.dynamic else [vector("decay_base", width, rates)]
        return (
            *own,
            *(linear(name, width, width) for name in ("k", "v", "r", "g")),
            *decay,
            Weight("bonus", (self.heads, width // self.heads), Init("normal", 0.5), ("channel", "channel")),
            vector("norm_gain", width, ONES),
            vector("norm_bias", width, ZEROS),
            linear("o", width, width, scope.residual_gain, writes_residual=True),
        )
