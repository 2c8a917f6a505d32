"""The language and the plan of norms."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Weight, vector
from evo.dsl.spec import Fault, Scope, Spec

Place = Literal["pre", "post", "sandwich"]
Eps = Annotated[float, Field(gt=0, le=1), FIXED]
Gains = Annotated[bool | Literal["heads", "one"], FIXED]
Groups = Annotated[int | None, Field(ge=1), FIXED]


@dataclass(frozen=True, kw_only=True)
class RMSNormPlan(BlockPlan):
    """RMS normalisation of all channels, with gains."""

    builder: ClassVar[str] = "evo.blocks.norm.module:RMSNorm"
    eps: float


@dataclass(frozen=True, kw_only=True)
class LayerNormPlan(BlockPlan):
    """Layer normalisation of all channels, with gains."""

    builder: ClassVar[str] = "evo.blocks.norm.module:LayerNorm"
    eps: float


@dataclass(frozen=True, kw_only=True)
class PartsNormPlan(BlockPlan):
    """Normalisation of equal parts of the channels, each by itself.

    parts: how many. channels: those of all parts. by_heads: whether the input comes cut into heads, (..., H, K).
    center: whether the mean is taken away. total: whether the squares are summed and not averaged.
    """

    builder: ClassVar[str] = "evo.blocks.norm.parts:PartsNorm"
    eps: float
    parts: int
    channels: int
    by_heads: bool
    center: bool = False
    total: bool = False


class NormSpec(Spec):
    """A norm and its place: pre `x + f(N(x))`, post `N(x + f(x))`, sandwich `x + N(f(N(x)))`."""

    centers: ClassVar[bool] = False
    totals: ClassVar[bool] = False

    place: Place = "pre"
    """Where it stands around each mixer and feed-forward."""

    def plan(self, scope: Scope) -> BlockPlan:
        """The norm of the residual stream; a norm is never nothing."""
        raise NotImplementedError

    def over_heads(self, heads: int, head_dim: int) -> BlockPlan:
        """The norm of what a mixer has by heads, (..., heads, head_dim)."""
        raise NotImplementedError

    @property
    def tells_heads_apart(self) -> bool:
        """Whether what it does with one head depends on which one it is."""
        has_form = type(self).over_heads is not NormSpec.over_heads
        return has_form and self.over_heads(2, 2).weights != self.over_heads(1, 2).weights

    def stream_problems(self, width: int, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
        """What keeps it from normalising a stream of that width; paths begin with where it stands."""
        del width, path
        return iter(())

    def slot_problems(self, width: int, path: tuple[str | int, ...]) -> Iterator[Fault]:
        """The same where it stands in a slot, and a warning if it says a place all the same."""
        yield from self._place_problems(path)
        yield from self.stream_problems(width, path)

    def head_problems(self, heads: int, head_dim: int, path: tuple[str | int, ...]) -> Iterator[Fault]:
        """What keeps it from normalising what a mixer has by heads."""
        del heads, head_dim
        yield from self._place_problems(path)
        if type(self).over_heads is NormSpec.over_heads:
            yield Fault("EVO303", path, f"the norm '{self.label}' has no form over heads", "choose another norm")

    def _place_problems(self, path: tuple[str | int, ...]) -> Iterator[Fault]:
        if "place" in self.model_fields_set:
            yield Fault("EVO330", (*path, "place"), "a norm in a slot stands where the slot is", "remove it", "warning")


class GroupedNormSpec(NormSpec):
    """What the norms that ship with evo have in common: gains or none, and equal groups of channels."""

    eps: Eps = 1e-6
    """Added to the mean square, inside the root."""
    gain: Gains = True
    """Whether gains are learned; `heads`: each head of a mixer has its own, and otherwise all heads share one set;
    `one`: all channels share one (ScaleNorm, Nguyen & Salazar 2019)."""
    groups: Groups = None
    """Into how many equal groups channels are cut, each normalised by itself; if left out, a head in a mixer and
    all channels of the stream."""

    @property
    def _has_bias(self) -> bool:
        return False

    def stream_problems(self, width: int, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
        if self.gain == "heads":
            yield Fault("EVO303", (*path, "gain"), "the residual stream has no heads", "write true or false")
        yield from self._group_problems(width, 1, path)

    def head_problems(self, heads: int, head_dim: int, path: tuple[str | int, ...]) -> Iterator[Fault]:
        yield from super().head_problems(heads, head_dim, path)
        yield from self._group_problems(heads * head_dim, heads, path)
        if self.gain == "heads" and self.groups is not None:
            message = "with groups, every channel has a gain of its own anyway"
            yield Fault("EVO303", (*path, "gain"), message, "write true")

    def _group_problems(self, channels: int, parts: int, path: tuple[str | int, ...]) -> Iterator[Fault]:
        """parts: how many groups there are if it says nothing of them."""
        where = path if self.groups is None else (*path, "groups")
        if self.groups and channels % self.groups:
            message = f"{self.groups} groups do not divide {channels} channels"
            yield Fault("EVO303", where, message, "change groups, or leave it out")
        elif self.centers and channels == (self.groups or parts):
            message = "a channel less its own mean is 0, whatever it was"
            yield Fault("EVO303", where, message, "normalise several channels together")

    def over_heads(self, heads: int, head_dim: int) -> BlockPlan:
        shared = self.groups is None and self.gain != "heads"
        size = head_dim if shared else heads * head_dim
        return self._parts(self.groups or heads, heads * head_dim, self._weights(size), by_heads=True)

    def _parts(self, parts: int, channels: int, weights: tuple[Weight, ...], *, by_heads: bool) -> PartsNormPlan:
        return PartsNormPlan(
            kind=self.label,
            weights=weights,
            cost=self._cost(channels),
            eps=self.eps,
            parts=parts,
            channels=channels,
            by_heads=by_heads,
            center=self.centers,
            total=self.totals,
        )

    def _weights(self, size: int) -> tuple[Weight, ...]:
        gain = (vector("gain", 1 if self.gain == "one" else size, ONES),) if self.gain else ()
        return (*gain, vector("bias", size, ZEROS)) if self._has_bias else gain

    def _cost(self, channels: int) -> Cost:
        return Cost(flops=(7.0 if self.centers else 4.0) * channels, activations=channels)

    @property
    def _is_plain(self) -> bool:
        """Whether it is one group with gains, which kernels have."""
        return self.gain is True and self.groups in (None, 1)


class RMSNormSpec(GroupedNormSpec):
    """x / rms(x) * gain (Zhang & Sennrich 2019)."""

    kind: ClassVar[str | None] = "rms"

    bias: bool = False
    """Whether a bias is learned (xLSTM)."""

    @property
    def _has_bias(self) -> bool:
        return self.bias

    def plan(self, scope: Scope) -> BlockPlan:
        weights, cost = self._weights(scope.width), self._cost(scope.width)
        if self._is_plain and not self.bias:
            return RMSNormPlan(kind=self.label, weights=weights, cost=cost, eps=self.eps)
        return self._parts(self.groups or 1, scope.width, weights, by_heads=False)


class LayerNormSpec(GroupedNormSpec):
    """(x - mean) / deviation * gain + bias (Ba et al. 2016)."""

    kind: ClassVar[str | None] = "layer"
    centers: ClassVar[bool] = True

    eps: Eps = 1e-5
    """Added to the variance, inside the root."""
    bias: bool = True
    """Whether a bias is learned."""
    gain: Gains = True
    """Whether gains are learned; `heads`: each head of a mixer has its own, and otherwise all heads share one set;
    `one`: all channels share one (ScaleNorm, Nguyen & Salazar 2019)."""
    groups: Groups = None
    """Into how many equal groups channels are cut, each normalised by itself; if left out, a head in a mixer and
    all channels of the stream."""

    @property
    def _has_bias(self) -> bool:
        return self.bias

    def plan(self, scope: Scope) -> BlockPlan:
        weights, cost = self._weights(scope.width), self._cost(scope.width)
        if self._is_plain:
            return LayerNormPlan(kind=self.label, weights=weights, cost=cost, eps=self.eps)
        return self._parts(self.groups or 1, scope.width, weights, by_heads=False)


class L2NormSpec(GroupedNormSpec):
    """x / sqrt(sum(x²) + eps): unit vectors, without gains unless they are asked for."""

    kind: ClassVar[str | None] = "l2"
    totals: ClassVar[bool] = True

    gain: Gains = False
    """Whether gains are learned; `heads`: each head of a mixer has its own, and otherwise all heads share one set;
    `one`: all channels share one (ScaleNorm, Nguyen & Salazar 2019)."""

    def plan(self, scope: Scope) -> BlockPlan:
        return self._parts(self.groups or 1, scope.width, self._weights(scope.width), by_heads=False)
