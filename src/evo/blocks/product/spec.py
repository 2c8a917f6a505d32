"""The language and the plan of a block that another one gates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec, RMSNormSpec
from evo.dsl.acts import Word
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost
from evo.dsl.references import built_problems, plan_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ProductPlan(BlockPlan):
    """A block and the one that gates it: its children `main` and `gate`, and a norm of each."""

    builder: ClassVar[str] = "evo.blocks.product.module:Product"
    act: str

    @property
    def can_be_silent(self) -> bool:
        return self.act in ("sigmoid", "softplus") and super().can_be_silent  # a gate of 0 would teach nothing

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        return (dict(self.children)["main"],)


class ProductSpec(Spec):
    """norm(main(x)) * act(norm(gate(x))), both blocks on the same input (Titans' memory as a gate, 2501.00663).

    Without norms and act it is the product of any two blocks: of a state space and a map (gated state spaces, Mehta et
    al. 2206.13947), of two maps, or of two mixers.
    """

    kind: ClassVar[str | None] = "product"
    is_keyed: ClassVar[bool] = True

    product: Annotated[
        tuple[Name | Spec, ...], AsTuple, ListOf(), RoleOf("block"), Ref(), Field(min_length=2, max_length=2)
    ]
    """The block, and the one that gates it. Text names an entry of `pseudopods`."""
    act: Word = "sigmoid"
    """What the gate passes."""
    norm: Annotated[Literal["none", "rms"] | Spec, RoleOf("norm")] = "rms"
    """A norm of each, with weights of its own: rms, any other, or none."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        for index, entry in enumerate(self.product):
            yield from built_problems(entry, scope, ("product", index))
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(scope.width, ("norm",))

    def plan(self, scope: Scope) -> ProductPlan:
        main, gate = (plan_mixer(entry, scope) for entry in self.product)
        norms: tuple[tuple[str, BlockPlan], ...] = ()
        norm = RMSNormSpec() if self.norm == "rms" else self.norm
        if isinstance(norm, NormSpec):
            norms = tuple((name, norm.plan(scope)) for name in ("main_norm", "gate_norm"))
        return ProductPlan(
            kind=self.label,
            cost=Cost(flops=2.0 * scope.width, activations=2 * scope.width),
            children=(("main", main), ("gate", gate), *norms),
            act=self.act,
        )
