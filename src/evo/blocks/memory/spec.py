"""The language and the plan of neural memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.acts import Word
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class MemoryPlan(BlockPlan):
    """Memories of `heads` heads of width `dim`; `sizes` are the (out, in) of a memory's layers."""

    builder: ClassVar[str] = "evo.blocks.memory.module:Memory"
    heads: int
    dim: int
    sizes: tuple[tuple[int, int], ...]
    chunk: int
    momentum: bool
    rate: float
    act: str
    qk_norm: bool
    gate: bool
    loss: str
    power: float | None
    norm: bool
    forget: bool
    bias: bool


class MemorySpec(Spec):
    """y = M_t(q), M_t = (1 - a) M + S_t, S_t = n S - r grad |M(k) - v|^2 (Titans, Behrouz et al. 2025)."""

    kind: ClassVar[str | None] = "memory"

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "x2"), WIDENING]
    """Heads, each with a memory of its own."""
    dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of a head's keys, queries and values; width / heads if left out."""
    depth: Literal[1, 2] = 1
    """Layers of a memory: a matrix, or two with gelu between them."""
    ratio: Annotated[float, Field(gt=0, le=16), Gene(1, 4, "scale")] = 2.0
    """Width between the two layers, as a multiple of `dim`."""
    chunk: Annotated[int, Field(ge=1, le=65536), Gene(4, 64, "x2")] = 16
    """Tokens whose gradients are taken at the same weights, those before the first of them."""
    momentum: bool = True
    """Whether past surprise is carried on."""
    rate: Annotated[float, Field(gt=0, le=100), Gene(0.01, 1, "scale")] = 0.1
    """The largest step on a token's loss, the mean square over `dim`. A memory of two layers explodes near 1."""
    act: Annotated[Word, FIXED] = "silu"
    """The activation of queries, keys and values."""
    qk_norm: bool = True
    """Whether queries and keys are unit vectors."""
    gate: bool = True
    """Whether a head's output is multiplied by a sigmoid of the token."""
    loss: Literal["square", "huber", "cube"] = "square"
    """What a memory learns to lower, of each channel's error e. square: e². huber: e² up to 1 and 2 |e| - 1 beyond
    (Yaad). cube: |e|³ (Moneta, with `power: 4`; both in Miras, 2504.13173)."""
    power: Annotated[float | None, Field(gt=2, le=16), Gene(3, 6, "linear", optional=True)] = None
    """A layer's weights A are read, and taught, as A / ||A||_q^(q - 2), q this number and the norm that of all entries
    (Moneta: 4); as they are if left out. The weights of every token are made then."""
    norm: bool = False
    """Whether a memory is read and taught as x + LN(M(x)), with gains and a bias of each head (TTT, 2407.04620)."""
    forget: bool = True
    """Whether a memory forgets a share of itself at each token."""
    bias: bool = False
    """Whether each layer of a memory has a bias, which learns as its weights do."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset({"ratio"}) if self.depth == 1 else frozenset()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.dim is None and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set dim")

    def plan(self, scope: Scope) -> MemoryPlan:
        dim = self.dim or scope.width // self.heads
        hidden = max(1, round(self.ratio * dim))
        one = int(self.bias)
        sizes = ((dim, dim + one),) if self.depth == 1 else ((hidden, dim + one), (dim, hidden + one))
        weights, held = self._weights(scope, dim, sizes), sum(out * into for out, into in sizes)
        kinds = 2 if self.momentum else 1
        passes = 2.0 * held * (self.depth + kinds) + 4.0 * held  # errors, reads, and what a chunk leaves behind
        inside = 2.0 * self.chunk * sum(out + into for out, into in sizes)
        inside += (2.0 * self.chunk + 8.0) * held if self.power is not None else 0.0
        return MemoryPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(
                flops=matmul_flops(weights) + self.heads * (passes + inside),
                state=self.heads * (held * kinds + (self.chunk - 1) * (2 * dim + kinds + self.forget)),
                activations=scope.width
                + self.heads
                * (4 * dim + 2 * sum(out + into for out, into in sizes) + (held if self.power is not None else 0)),
            ),
            has_state=True,
            heads=self.heads,
            dim=dim,
            sizes=sizes,
            chunk=self.chunk,
            momentum=self.momentum,
            rate=self.rate,
            act=self.act,
            qk_norm=self.qk_norm,
            gate=self.gate,
            loss=self.loss,
            power=self.power,
            norm=self.norm,
            forget=self.forget,
            bias=self.bias,
        )

    def _weights(self, scope: Scope, dim: int, sizes: tuple[tuple[int, int], ...]) -> tuple[Weight, ...]:
        width, heads = scope.width, self.heads
        weights = [linear(name, heads * dim, width) for name in ("q", "k", "v")]
        controls = {"step": 0.0}
        if self.forget:
            controls["forget"] = -4.0
        if self.momentum:
            controls["keep"] = 1.0
        for name, start in controls.items():
            weights += [linear(name, heads, width), vector(f"{name}_bias", heads, Init("constant", start))]
        for index, (out, into) in enumerate(sizes):
            init = Init("normal", into**-0.5)
            weights.append(Weight(f"memory_{index}", (heads, out, into), init, ("stack", "channel", "channel")))
        if self.gate:
            weights.append(linear("gate", heads, width))
        if self.norm:
            for name, init in (("norm_gain", ONES), ("norm_bias", ZEROS)):
                weights.append(Weight(name, (heads, dim), init, ("channel", "channel")))
        return (*weights, linear("o", width, heads * dim, scope.residual_gain, writes_residual=True))
