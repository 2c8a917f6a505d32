"""The language and the plan of xLSTM's matrix memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.mlstm.wide import WideSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.references import placed
from evo.dsl.spec import Fault, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class MLSTMPlan(BlockPlan):
    """`heads` memories of (key_dim, value_dim)."""

    builder: ClassVar[str] = "evo.blocks.mlstm.module:MLSTM"
    heads: int
    key_dim: int
    value_dim: int
    cap: float | None
    eps: float


@dataclass(frozen=True, kw_only=True)
class WideMLSTMPlan(MLSTMPlan):
    """The same in a wider space."""

    builder: ClassVar[str] = "evo.blocks.mlstm.wide_module:WideMLSTM"


class MLSTMSpec(Spec):
    """C_t = f_t C_{t-1} + i_t k_t v_t^T, read as C q / max(|n q|, 1), i exponential (xLSTM, Beck et al. 2405.04517)."""

    kind: ClassVar[str | None] = "mlstm"
    widths_apart: ClassVar[bool] = True

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "x2"), WIDENING]
    """Heads, each with its own memory."""
    key_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of a head's queries and keys; half of width / heads if left out."""
    value_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 256, "x2", optional=True)] = None
    """Width of a head's values; width / heads if left out."""
    cap: Annotated[float | None, Field(gt=0), Gene(5, 50, "scale", optional=True)] = 15.0
    """Bounds the gates' logits to ±cap by `cap * tanh(logit / cap)`."""
    bias: bool = False
    """Biases of q, k, v, the output gate, the norm and the output projection; those of the other gates are always
    there."""
    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 1e-6
    """Of the norm of each head's output."""
    wide: WideSpec | None = None
    """What the memory reads and gives where it is wider than the stream (xLSTM's first form, of which key_dim and
    value_dim are those of its channels); it reads the stream itself if left out (xLSTM 7B)."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.wide is None else frozenset({"key_dim", "value_dim", "bias"})

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.wide is not None:
            yield from (placed(fault, "wide") for fault in self.wide.faults(scope, self.heads))
            return
        free = self.key_dim is None or self.value_dim is None
        if free and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set key_dim and value_dim")
        elif (self.value_dim or scope.width // self.heads) == 1:
            where = "heads" if self.value_dim is None else "value_dim"
            message = "a head of one channel is 0 behind its norm, whatever it reads"
            yield Fault("EVO300", (where,), message, "give a head several channels")

    def plan(self, scope: Scope) -> MLSTMPlan:
        if self.wide is None:
            share = scope.width // self.heads
            key_dim, value_dim = self.key_dim or max(1, share // 2), self.value_dim or share
            weights, beside = self._weights(scope, self.heads * key_dim, self.heads * value_dim), 0
        else:
            key_dim = value_dim = self.wide.channels(scope) // self.heads
            weights, beside = self.wide.weights(scope, self.heads), (self.wide.conv - 1) * self.heads * value_dim
        cost = Cost(
            flops=matmul_flops(weights) + 5.0 * self.heads * key_dim * (value_dim + 1),
            state=self.heads * (key_dim * (value_dim + 1) + 1) + beside,
            activations=scope.width
            + 2 * self.heads * key_dim
            + (5 if self.wide is None else 9) * self.heads * value_dim,
        )
        made = MLSTMPlan if self.wide is None else WideMLSTMPlan
        return made(
            kind=self.label,
            weights=weights,
            cost=cost,
            has_state=True,
            heads=self.heads,
            key_dim=key_dim,
            value_dim=value_dim,
            cap=self.cap,
            eps=self.eps,
        )

    def _weights(self, scope: Scope, keys: int, values: int) -> tuple[Weight, ...]:
        width = scope.width
        sizes = {"q": keys, "k": keys, "v": values, "gate": values}
        weights = [linear(name, size, width) for name, size in sizes.items()]
        weights += [linear(name, self.heads, width) for name in ("input_gate", "forget_gate")]
        weights += [
            vector("input_gate_bias", self.heads, Init("constant", -10.0)),
            vector("forget_gate_bias", self.heads, Init("ramp", 3.0, 6.0)),
            vector("norm_gain", values, ONES),
            linear("o", scope.given, values, scope.residual_gain, writes_residual=True),
        ]
        if self.bias:
            biased = (*sizes.items(), ("norm", values), ("o", scope.given))
            weights += [vector(f"{name}_bias", size, ZEROS) for name, size in biased]
        return tuple(weights)
