"""The language and the plan of recurrent networks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, taps, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec

KEPT_FIRST = Init("ramp", 0.0, 4.0)
"""The bias of what decides what is kept: channels begin with memories of different lengths."""


@dataclass(frozen=True, kw_only=True)
class RnnPlan(BlockPlan):
    """A cell of `inner` channels whose maps of its own output have `heads` blocks; `gates` in the order of those maps'
    rows, `tapped` those that read the convolution; `kept` the parts of its memory."""

    builder: ClassVar[str] = "evo.blocks.rnn.module:Rnn"
    inner: int
    heads: int
    kept: int
    cell: str
    gates: tuple[str, ...]
    tapped: tuple[str, ...]
    input: str
    forget: str
    reset: str
    act: str


class RnnSpec(Spec):
    """h_t = cell(W x_t + R h_{t-1} + b), R block-diagonal: an LSTM, xLSTM's sLSTM, a GRU, or Elman's network.

    Its gates read its own last output, so tokens follow one another in training too. Cell lstm with input exponential
    is sLSTM (Beck et al. 2405.04517).
    """

    kind: ClassVar[str | None] = "rnn"
    widths_apart: ClassVar[bool] = True

    cell: Literal["lstm", "gru", "plain"] = "lstm"
    """lstm: a cell apart from the output, with gates of both. gru: reset and update gates. plain: no gate."""
    inner: Annotated[
        int | None, Field(ge=1, le=262144), Gene(32, 2048, "scale", multiple=16, optional=True), WIDENING
    ] = None
    """Channels of its output; the width if left out."""
    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "x2"), WIDENING] = 1
    """Blocks of the block-diagonal maps of its own output."""
    input: Literal["own", "rest", "exponential"] = "own"
    """How much of the candidate an lstm takes in. own: a gate of its own. rest: 1 - f. exponential: e to the power of a
    map, and the cell is divided by the sum of what gates let in (sLSTM)."""
    forget: Literal["sigmoid", "exponential"] = "sigmoid"
    """What the forget gate beside an exponential input gate is of its map."""
    reset: Literal["after", "before"] = "after"
    """Whether a gru's reset gate multiplies the candidate's map of the last output (cuDNN), or what it maps (Cho et al.
    2014)."""
    act: Literal["tanh", "relu", "silu", "identity"] = "tanh"
    """The activation of the candidate, and of an lstm's cell where nothing divides it."""
    conv: Annotated[int, Field(ge=0, le=64), Gene(0, 8, "+1")] = 0
    """Taps of the convolution, followed by silu, that input and forget gates, or reset and update gates, read x
    through; 0 for none."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of its output, before the last projection."""
    bias: bool = False
    """A bias of the last projection; candidate and gates, but an exponential input gate, always have one."""

    @property
    def unread(self) -> frozenset[str]:
        fields: set[str] = set()
        if self.cell != "lstm":
            fields |= {"input", "forget"}
        elif self.input != "exponential":
            fields.add("forget")
        if self.cell != "gru":
            fields.add("reset")
        if self.cell == "plain":
            fields.add("conv")
        return frozenset(fields)

    def problems(self, scope: Scope) -> Iterator[Fault]:
        inner = self.inner or scope.width
        if inner % self.heads:
            yield Fault("EVO300", ("heads",), f"{self.heads} heads do not divide {inner} channels", "change heads")
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(inner, ("norm",))

    def plan(self, scope: Scope) -> RnnPlan:
        inner, gates, tapped = self.inner or scope.width, self._gates(), self._tapped()
        weights = self._weights(scope, inner)
        kept = 1 if self.cell != "lstm" else 4 if self.input == "exponential" else 2
        cost = Cost(
            flops=matmul_flops(weights) + (6.0 * len(gates) + 4.0) * inner,
            state=kept * inner + max(self.conv - 1, 0) * scope.width * bool(tapped),
            activations=scope.width * (1 + 2 * bool(tapped)) + (3 * len(gates) + 2 * kept) * inner,
        )
        children: tuple[tuple[str, BlockPlan], ...] = ()
        if isinstance(self.norm, NormSpec):
            children = (("norm", self.norm.plan(replace(scope, width=inner))),)
        return RnnPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=children,
            has_state=True,
            inner=inner,
            heads=self.heads,
            kept=kept,
            cell=self.cell,
            gates=gates,
            tapped=tapped,
            input=self.input,
            forget=self.forget,
            reset=self.reset,
            act=self.act,
        )

    def _gates(self) -> tuple[str, ...]:
        if self.cell == "lstm":
            return (*(() if self.input == "rest" else ("input_gate",)), "forget_gate", "output_gate", "candidate")
        return ("reset_gate", "update_gate", "candidate") if self.cell == "gru" else ("candidate",)

    def _tapped(self) -> tuple[str, ...]:
        return tuple(gate for gate in self._gates() if gate not in ("candidate", "output_gate")) if self.conv else ()

    def _weights(self, scope: Scope, inner: int) -> tuple[Weight, ...]:
        gates, part = self._gates(), inner // self.heads
        apart = self.cell == "gru" and self.reset == "before"

        def own(name: str, count: int) -> Weight:
            axes = ("stack", "out", "in")
            return Weight(name, (self.heads, count * part, part), Init("normal", part**-0.5), axes, "matrix")

        weights = [linear(name, inner, scope.width) for name in gates]
        weights += [
            vector(f"{name}_bias", inner, KEPT_FIRST if name in ("forget_gate", "update_gate") else ZEROS)
            for name in gates
            if name != "input_gate" or self.input != "exponential"  # where it would divide itself out
        ]
        weights.append(own("own", len(gates) - apart))
        if apart:
            weights.append(own("candidate_own", 1))
        elif self.cell == "gru":
            weights.append(vector("candidate_own_bias", inner, ZEROS))
        if self._tapped():
            weights.append(taps("taps", scope.width, self.conv))
        weights.append(linear("o", scope.given, inner, scope.residual_gain, writes_residual=True))
        if self.bias:
            weights.append(vector("o_bias", scope.given, ZEROS))
        return tuple(weights)
