"""The language and the plan of blocks one behind the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan
from evo.dsl.references import built_problems, plan_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ChainPlan(BlockPlan):
    """Blocks that each read what the one before gives: its children, in order."""

    builder: ClassVar[str] = "evo.blocks.chain.module:Chain"

    @property
    def can_be_silent(self) -> bool:
        *before, (_, last) = self.children  # a link that hears nothing would learn nothing
        writes = any(weight.writes_residual for _, link in before for _, weight in link.named_weights(""))
        return last.can_be_silent and not writes


class ChainSpec(Spec):
    """f_n(... f_2(f_1(x))): mixers and feed-forwards without a residual stream between them.

    With a convolution of `maps: false` and `residual: true`, it is a Canon layer before a block (Allen-Zhu 2025), or
    the convolved branch of Inkling behind one.
    """

    kind: ClassVar[str | None] = "chain"
    is_keyed: ClassVar[bool] = True

    chain: Annotated[
        tuple[Name | Spec, ...], AsTuple, ListOf(), RoleOf("block"), Ref(), Field(min_length=2, max_length=16)
    ]
    """The blocks in the order they run, at least two. Text names an entry of `pseudopods`."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        for index, entry in enumerate(self.chain):
            yield from built_problems(entry, scope, ("chain", index))

    def plan(self, scope: Scope) -> ChainPlan:
        links = tuple((f"link{index}", plan_mixer(entry, scope)) for index, entry in enumerate(self.chain))
        return ChainPlan(kind=self.label, children=links)
