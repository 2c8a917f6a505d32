"""The language and the plan of feed-forwards."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.activation.spec import act_child, act_word
from evo.blocks.norm.spec import NormSpec
from evo.dsl.acts import Act, Word
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, taps, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec

Ratio = Annotated[float, Field(gt=0, le=64), Gene(0.5, 8, "scale")]
UpAct = Annotated[Word, FIXED]
Hidden = Annotated[int | None, Field(ge=1, le=1_000_000), Gene(16, 16384, "scale", multiple=8), WIDENING]


def hidden_size(width: int, ratio: float) -> int:
    """width * ratio, rounded to a multiple of 8 (at least 8) so that matrices tile well."""
    return max(8, round(width * ratio / 8) * 8)


class UnitTapsSpec(Spec):
    """A short causal convolution of each hidden channel before it is activated, of what gates too (Canon-D, Allen-Zhu
    2025)."""

    called: ClassVar[str | None] = "these taps"

    size: Annotated[int, Field(ge=2, le=64), Gene(2, 8, "+1")] = 4
    """Taps: how many tokens each hidden unit is made of, its own included."""
    residual: bool = True
    """Whether the channel itself is added."""

    def weights(self, names: tuple[str, ...], hidden: int) -> list[Weight]:
        """Those of each projection."""
        return [taps(f"{name}_taps", hidden, self.size) for name in names]


@dataclass(frozen=True, kw_only=True)
class DensePlan(BlockPlan):
    """A dense feed-forward of `hidden` units."""

    builder: ClassVar[str] = "evo.blocks.feedforward.module:Dense"
    hidden: int
    act: str
    taps: UnitTapsSpec | None = None


@dataclass(frozen=True, kw_only=True)
class GatedPlan(BlockPlan):
    """A gated feed-forward of `hidden` units. up_act: what those pass that are gated, if anything."""

    builder: ClassVar[str] = "evo.blocks.feedforward.module:Gated"
    hidden: int
    act: str
    up_act: str
    taps: UnitTapsSpec | None = None


@dataclass(frozen=True, kw_only=True)
class HiddenGainsPlan(BlockPlan):
    """A gain for each hidden channel."""

    builder: ClassVar[str] = "evo.blocks.feedforward.module:HiddenGains"


class UnitsSpec(Spec):
    """A feed-forward of some hidden units."""

    stacks: ClassVar[bool] = True
    widths_apart: ClassVar[bool] = True

    ratio: Ratio = 4.0
    """Hidden width over width; the product is rounded to a multiple of 8."""
    act: Act = "relu2"
    """What the hidden units pass: a word, or a spec with settings."""
    bias: bool = False
    """Biases on all projections."""
    hidden: Hidden = None
    """The exact hidden width, instead of `ratio`."""
    inner_norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of the hidden units before they are projected down."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.hidden is None else frozenset({"ratio"})

    @property
    def grows(self) -> frozenset[str]:
        return frozenset({"ratio", "hidden"} if self.inner_norm is None else ())

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if isinstance(self.act, Spec):
            yield from (replace(found, path=("act", *found.path)) for found in self.act.problems(scope))
        if isinstance(self.inner_norm, NormSpec):
            yield from self.inner_norm.slot_problems(self.units(scope), ("inner_norm",))

    def units(self, scope: Scope) -> int:
        """How many hidden units there are."""
        return self.hidden or hidden_size(scope.width, self.ratio)

    def children(self, scope: Scope) -> tuple[tuple[str, BlockPlan], ...]:
        """The blocks inside: an activation with settings, and the inner norm."""
        units = self.units(scope)
        norm = self.inner_norm
        inner = (("inner_norm", norm.plan(replace(scope, width=units))),) if isinstance(norm, NormSpec) else ()
        return (*act_child(self.act, units), *inner)


class TappedUnitsSpec(UnitsSpec):
    """A feed-forward whose hidden units may be made of several tokens."""

    taps: UnitTapsSpec | None = None
    """Short convolutions of hidden channels; none if left out."""
    gain: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What learned numbers start at, one for each hidden channel before its taps and its activation; none if left out.
    What gates another is multiplied by it, and what it gates by numbers that start at 1 (nGPT, 2410.01131: the root of
    the width)."""

    def gains(self, names: tuple[str, ...], hidden: int) -> tuple[tuple[str, BlockPlan], ...]:
        """The gains of these projections, the first of which passes the activation."""
        if self.gain is None:
            return ()
        starts = (self.gain, *(1.0 for _ in names[1:]))
        return tuple(
            (f"{name}_gain", HiddenGainsPlan(kind="gains", weights=(vector("gain", hidden, Init("constant", start)),)))
            for name, start in zip(names, starts, strict=True)
        )

    def tapped(self, names: tuple[str, ...], hidden: int) -> tuple[list[Weight], int]:
        """The weights of the taps of these projections, and how many values decoding keeps."""
        if self.taps is None:
            return [], 0
        return self.taps.weights(names, hidden), len(names) * (self.taps.size - 1) * hidden


class DenseSpec(TappedUnitsSpec):
    """down(act(up(x)))."""

    kind: ClassVar[str | None] = "dense"

    def plan(self, scope: Scope) -> DensePlan:
        hidden = self.units(scope)
        found, kept = self.tapped(("up",), hidden)
        weights = [linear("up", hidden, scope.width), _down(scope, hidden), *found]
        if self.bias:
            weights += [vector("up_bias", hidden, ZEROS), vector("down_bias", scope.given, ZEROS)]
        activations = scope.width + 2 * hidden + len(found) * hidden
        return DensePlan(
            kind=self.label,
            weights=tuple(weights),
            cost=Cost(flops=matmul_flops(tuple(weights)), state=kept, activations=activations),
            children=(*self.children(scope), *self.gains(("up",), hidden)),
            has_state=self.taps is not None,
            taps=self.taps,
            hidden=hidden,
            act=act_word(self.act),
        )


class GatedSpec(TappedUnitsSpec):
    """down(act(gate(x)) * up_act(up(x))) (Shazeer 2020)."""

    kind: ClassVar[str | None] = "gated"

    ratio: Ratio = 2.67
    """Hidden width over width; the product is rounded to a multiple of 8."""
    act: Act = "silu"
    """What the gate passes: a word (silu: SwiGLU), or a spec with settings, which may bound what is gated too."""
    up_act: UpAct = "identity"
    """What passes before it is gated (relu, as the gate: dReLU; TurboSparse, Song et al. 2406.05955)."""

    def plan(self, scope: Scope) -> GatedPlan:
        hidden = self.units(scope)
        weights = [
            linear("gate", hidden, scope.width),
            linear("up", hidden, scope.width),
            _down(scope, hidden),
        ]
        found, kept = self.tapped(("gate", "up"), hidden)
        weights += found
        if self.bias:
            sizes = (("gate", hidden), ("up", hidden), ("down", scope.given))
            weights += [vector(f"{name}_bias", size, ZEROS) for name, size in sizes]
        activations = scope.width + (4 + (self.up_act != "identity") + len(found)) * hidden
        return GatedPlan(
            kind=self.label,
            weights=tuple(weights),
            cost=Cost(flops=matmul_flops(tuple(weights)), state=kept, activations=activations),
            children=(*self.children(scope), *self.gains(("gate", "up"), hidden)),
            has_state=self.taps is not None,
            taps=self.taps,
            hidden=hidden,
            act=act_word(self.act),
            up_act="" if self.up_act == "identity" else self.up_act,
        )


class NoFeedForwardSpec(Spec):
    """No feed-forward: the layer is its mixer alone."""

    kind: ClassVar[str | None] = "none"

    def plan(self, scope: Scope) -> None:
        return None


def _down(scope: Scope, hidden: int) -> Weight:
    return linear("down", scope.given, hidden, scope.residual_gain, writes_residual=True)
