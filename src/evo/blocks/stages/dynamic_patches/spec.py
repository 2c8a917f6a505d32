"""The language and the plan of a stage over patches whose lengths follow from the tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.cross_attention.spec import head_problems
from evo.blocks.norm.spec import NormSpec
from evo.blocks.route.spec import shared
from evo.blocks.stages.dynamic_patches.patchers.spec import PatcherSpec
from evo.blocks.stages.patches.over import OverPatchesSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.layers import StagePlan
from evo.dsl.organism import vectors_of
from evo.dsl.paths import MERGE
from evo.dsl.plan import BlockPlan, Cost, Weight, gains, linear, matmul_flops
from evo.dsl.references import placed
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class DynamicPatchesPlan(StagePlan):
    """A stage over patches that end where a patcher says, both its children: one for every `size` tokens at most.

    vectors: how many a patch is made of, and a token is given. skip: what pooled tokens are multiplied by.
    """

    builder: ClassVar[str] = "evo.blocks.stages.dynamic_patches.module:DynamicPatches"
    gathers: ClassVar[bool] = True
    size: int
    vectors: int
    heads: int
    kv_heads: int
    skip: float


class DynamicPatchesSpec(OverPatchesSpec):
    """A stage over patches whose lengths follow from the tokens: a patch is what some vectors see in its tokens, and
    each token is given as many of what the stage makes of the latest that has ended (BLT, Pagnoni et al. 2024)."""

    kind: ClassVar[str | None] = "dynamic_patches"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage. It reads patches, so it has no `from`; its positions count them."""
    patcher: Annotated[Spec, RoleOf("patcher", default="space")] = DEFAULT
    """Behind which tokens a patch may end. The first token is a patch of its own."""
    size: Annotated[int, Field(ge=1, le=4096), Gene(1, 16, "x2")] = 4
    """Tokens of a patch on average, at least: a patch goes on where it would be one too many so far."""
    width: Annotated[
        int | None, Field(ge=1, le=65536), Gene(64, 1024, "scale", multiple=16, optional=True), WIDENING
    ] = None
    """Width of the stage; that of a patch's vectors side by side if left out, without maps between."""
    slots: Annotated[int, Field(ge=1, le=64), Gene(1, 4, "+1")] = 2
    """Vectors that a patch is made of, and that each token is given: cross attention reads them, and `from` their
    mean."""
    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING] = 4
    """Heads of what attends to the tokens of a patch."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True), WIDENING] = None
    """Key and value heads, each serving heads / kv_heads queries; as many as heads if left out."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """The norm of what attends and of what is attended to; the organism's if left out."""
    skip: Annotated[float, Field(ge=0, le=1e6), FIXED] = 1.0
    """What pooled tokens are multiplied by where attention is added to them (BLT's code adds them twice: 2)."""

    @property
    def copies_norm(self) -> bool:
        return self.norm is None

    @property
    def vectors(self) -> int:
        return self.slots

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        assert isinstance(self.patcher, PatcherSpec)
        yield from super().entries()
        yield from self.patcher.entries()

    def patch_width(self, width: int) -> int:
        return self.width or self.slots * width

    def patch_count(self, context: int) -> int:
        return 1 + (context - 1) // self.size

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from super().problems(scope)
        yield from head_problems(self.heads, self.kv_heads, scope.width)
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(scope.width, ("norm",))
        yield from (placed(fault, "patcher") for fault in self.patcher.problems(scope))

    def _inner_faults(self, scope: Scope, code: str, units: str) -> Iterator[Fault]:
        yield from super()._inner_faults(scope, code, units)
        for block in self._inner.plan(self._scope(scope)).blocks():
            if block.losses:
                message = f"'{block.kind}' would balance patches too that fill up rows of fewer"
                yield Fault(code, ("of",), message, "choose one without a loss, or patches of one size")
                return

    def plan(self, scope: Scope) -> DynamicPatchesPlan:
        reads, width = self.reads(scope.before), scope.width
        sources, inner = len(dict(reads)["x"]), self._inner.plan(self._scope(scope))
        share, weights = self.patch_count(scope.context) / scope.context, self._weights(scope)
        pairs = self.slots * self.patch_count(scope.context)
        return DynamicPatchesPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(*weights, *((gains(MERGE, sources, width),) if sources > 1 else ())),
            cost=Cost(
                flops=matmul_flops(weights) + 4.0 * width * pairs,
                state=(self.size + self.slots) * width,
                activations=(4 + self.slots) * width,
            ),
            children=(
                ("patcher", self._patcher(scope)),
                (self._child, shared(inner, inner, share)),
                *((name, self._norm(scope).plan(scope)) for name in ("q_norm", "kv_norm")),
            ),
            outputs=(vectors_of(self.name),),
            has_state=True,
            size=self.size,
            vectors=self.slots,
            heads=self.heads,
            kv_heads=self.kv_heads or self.heads,
            skip=self.skip,
        )

    def _patcher(self, scope: Scope) -> BlockPlan:
        assert isinstance(self.patcher, PatcherSpec)
        plan = self.patcher.plan(scope)
        assert plan is not None
        return plan

    def _norm(self, scope: Scope) -> NormSpec:
        norm = self.norm or scope.norm
        assert isinstance(norm, NormSpec)
        return norm

    def _weights(self, scope: Scope) -> tuple[Weight, ...]:
        """What each patch meets once, or each of its vectors, and the keys and values of tokens."""
        width, wide, inside = scope.width, self.slots * scope.width, self.patch_width(scope.width)
        share = self.patch_count(scope.context) / scope.context
        keys = (self.kv_heads or self.heads) * (width // self.heads)
        once = [linear("pooled", wide, width), linear("up", wide, inside)]
        once += [linear("down", inside, wide)] if inside != wide else []
        each = [linear("q", width, width), linear("o", width, width)]
        return (
            *(replace(weight, share=share) for weight in once),
            *(replace(weight, share=share * self.slots) for weight in each),
            *(linear(name, keys, width) for name in ("k", "v")),
        )
