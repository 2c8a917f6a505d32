"""The language of a layer written out: sublayers with every norm in its slot, side by side and scaled if wanted."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.blocks.stages.layers.gains import GainSpec, has_shift
from evo.dsl.genes import FIXED
from evo.dsl.layers import SHIFT, Branch, LayerPlan, Sublayer
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost, Weight
from evo.dsl.references import mixer_problems, placed, resolve_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, OrNumber, Ref, RoleOf, Scope, Spec

Gain = Annotated[float | Spec, RoleOf("gain"), OrNumber(), FIXED]


class BranchNormsSpec(Spec):
    """The norms around one block of several side by side."""

    in_: Annotated[Spec | None, RoleOf("norm")] = None
    """What the block reads through."""
    out: Annotated[Spec | None, RoleOf("norm")] = None
    """What its output passes before it is added."""


class SublayerNormsSpec(BranchNormsSpec):
    """The norms of a sublayer, each in its slot; a slot that is left out has none."""

    in_: Annotated[Spec | None, RoleOf("norm")] = None
    """What its blocks read through."""
    out: Annotated[Spec | None, RoleOf("norm")] = None
    """What the output of its block passes before it is added."""
    after: Annotated[Spec | None, RoleOf("norm")] = None
    """What the sum passes (post-norm)."""


class BranchSpec(Spec):
    """One of several blocks side by side: gain * out(f(in(x)))."""

    block: Annotated[Name | Spec, RoleOf("block"), Ref()]
    """A mixer or a feed-forward. Text names an entry of `pseudopods`."""
    norm: BranchNormsSpec = Field(default_factory=BranchNormsSpec)
    """Its own norms; without `in`, it reads through that of the sublayer."""
    gain: Gain = 1.0
    """What it is multiplied by: a number, or a gain that is learned."""
    late: Annotated[int, Field(ge=0, le=15), FIXED] = 0
    """How many sublayers later its output is added to the stream (LongCat-Flash's shortcut)."""


class SublayerSpec(Spec):
    """x <- after(skip * x + sum_j gain_j * out_j(f_j(in_j(x)))): one block, or several side by side."""

    block: Annotated[Name | Spec | None, RoleOf("block"), Ref()] = None
    """Its block, a mixer or a feed-forward. Text names an entry of `pseudopods`."""
    parallel: Annotated[tuple[BranchSpec, ...], AsTuple, ListOf(), Field(max_length=16)] = ()
    """Several blocks on one residual, at least two, instead of `block`."""
    norm: SublayerNormsSpec = Field(default_factory=SublayerNormsSpec)
    """Its norms."""
    gain: Gain = 1.0
    """What the output of its block is multiplied by: a number, or a gain that is learned."""
    skip: Gain = 1.0
    """What x is multiplied by before the output is added; `{kind: rest}`: 1 - gain."""

    def branches(self) -> tuple[BranchSpec, ...]:
        """Its blocks, one or several, each as a branch."""
        if self.parallel:
            return self.parallel
        assert self.block is not None
        norms = BranchNormsSpec(in_=self.norm.in_, out=self.norm.out)
        return (BranchSpec(block=self.block, norm=norms, gain=self.gain),)

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if (self.block is None) == (not self.parallel):
            yield Fault("EVO306", (), "a sublayer has either `block` or `parallel`", "write one of the two")
            return
        if len(self.parallel) == 1:
            yield Fault("EVO306", ("parallel",), "one block is not side by side with another", "write it as `block`")
        if self.parallel:
            for field in ("gain", "out"):
                value = self.gain != 1.0 if field == "gain" else self.norm.out is not None
                if value:
                    path = ("gain",) if field == "gain" else ("norm", "out")
                    message = "with `parallel`, each branch has its own"
                    yield Fault("EVO306", path, message, "write it in the branches")
        if self.parallel and self.norm.in_ is not None and all(branch.norm.in_ for branch in self.parallel):
            message = "each branch reads through a norm of its own"
            yield Fault("EVO330", ("norm", "in"), message, "remove it", "warning")
        if self.parallel and isinstance(self.skip, GainSpec) and self.skip.is_rest:
            yield Fault("EVO306", ("skip",), "several gains leave no one rest", "write a number, or one block")
        if not self.parallel and isinstance(self.skip, GainSpec) and self.skip.is_rest and has_shift(self.gain, scope):
            yield Fault("EVO306", ("skip",), "a gain that shifts leaves no rest", "write gain: {shift: false}")
        for index, branch in enumerate(self.branches()):
            where = ("parallel", index) if self.parallel else ()
            if isinstance(branch.gain, GainSpec) and branch.gain.is_rest:
                yield Fault(
                    "EVO306", (*where, "gain"), "a rest is what a gain leaves, and this is the gain", "write a number"
                )
            yield from mixer_problems(branch.block, scope, (*where, "block"))
            if self.parallel:
                yield from _norm_problems(branch.norm, scope, (*where, "norm"))
        yield from _norm_problems(self.norm, scope, ("norm",))


def _norm_problems(norms: Spec, scope: Scope, path: tuple[str | int, ...]) -> Iterator[Fault]:
    for name in type(norms).model_fields:
        norm = getattr(norms, name)
        if isinstance(norm, NormSpec):
            yield from norm.slot_problems(scope.width, (*path, name.rstrip("_")))


class SublayersSpec(Spec):
    """A layer: sublayers that run one after another on the residual stream."""

    kind: ClassVar[str | None] = "sublayers"

    sublayers: Annotated[tuple[SublayerSpec, ...], AsTuple, ListOf(), Field(min_length=1, max_length=16)]
    """In the order they run."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        for index, sublayer in enumerate(self.sublayers):
            for problem in sublayer.problems(scope):
                yield placed(problem, "sublayers", index)
            for place, branch in enumerate(sublayer.parallel):
                if index + branch.late >= len(self.sublayers):
                    rest = len(self.sublayers) - 1 - index
                    path = ("sublayers", index, "parallel", place, "late")
                    yield Fault("EVO306", path, f"{rest} sublayers follow, of which none adds it", "lower `late`")

    def plan(self, scope: Scope) -> LayerPlan:
        parts = _Parts(scope)
        sublayers = [parts.sublayer(spec) for spec in self.sublayers]
        if not any(branch.late for sublayer in sublayers for branch in sublayer.branches):
            sublayers = [sublayer for sublayer in sublayers if sublayer.branches]
        return LayerPlan(
            kind=self.label,
            weights=tuple(parts.weights),
            cost=Cost(flops=float(scope.width * len(parts.weights))),
            children=tuple(parts.children.items()),
            sublayers=tuple(sublayers),
        )


class _Parts:
    """Collects the children and weights of a layer while its sublayers are planned, and names them."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.children: dict[str, BlockPlan] = {}
        self.weights: list[Weight] = []
        self.count = 0

    def sublayer(self, spec: SublayerSpec) -> Sublayer:
        """A planned sublayer; without branches and norm if none of its blocks builds anything."""
        start = self.count
        shared = self._norm(spec.norm.in_, f"{start}_norm") if spec.parallel else None
        branches = [found for branch in spec.branches() if (found := self._branch(branch, shared)) is not None]
        if shared is not None and all(branch.norm_in != shared for branch in branches):
            del self.children[shared]
        if not branches:
            return Sublayer(())
        after = self._norm(spec.norm.after, f"{start}_after_norm")
        if isinstance(spec.skip, GainSpec) and spec.skip.is_rest:
            gain = branches[0].gain
            rest = gain if isinstance(gain, str) else 1.0 - gain
            return Sublayer(tuple(branches), after, rest, skips_rest=isinstance(gain, str))
        return Sublayer(tuple(branches), after, self._gain(spec.skip, f"{start}_skip"))

    def _branch(self, spec: BranchSpec, shared: str | None) -> Branch | None:
        name = str(self.count)
        self.count += 1
        block = resolve_mixer(spec.block, self.scope).plan(self.scope)
        if block is None:
            return None
        self.children[name] = block
        norm_in = self._norm(spec.norm.in_, f"{name}_in_norm") or shared
        norm_out = self._norm(spec.norm.out, f"{name}_out_norm")
        return Branch(name, norm_in, norm_out, self._gain(spec.gain, f"{name}_gain"), spec.late)

    def _norm(self, norm: Spec | None, name: str) -> str | None:
        if norm is None:
            return None
        assert isinstance(norm, NormSpec)
        self.children[name] = norm.plan(self.scope)
        return name

    def _gain(self, gain: float | Spec, name: str) -> float | str:
        if not isinstance(gain, GainSpec):
            assert isinstance(gain, (int, float))
            return float(gain)
        made = gain.gain(name, self.scope)
        if not isinstance(made, Weight):
            return made
        shift = gain.shifted_by(f"{name}_{SHIFT}", self.scope)
        self.weights += [made] if shift is None else [made, shift]
        return made.name
