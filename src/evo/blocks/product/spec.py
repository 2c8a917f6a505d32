"""The language and the plan of a mixer that another one gates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import RMSNormSpec
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost
from evo.dsl.references import mixer_problems, plan_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ProductPlan(BlockPlan):
    """A mixer and the one that gates it: its children `main` and `gate`, and their norms."""

    builder: ClassVar[str] = "evo.blocks.product.module:Product"

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        return (dict(self.children)["main"],)


class ProductSpec(Spec):
    """rms(main(x)) * sigmoid(rms(gate(x))), both mixers on the same input (Titans' memory as a gate, 2501.00663)."""

    kind: ClassVar[str | None] = "product"
    is_keyed: ClassVar[bool] = True

    product: Annotated[
        tuple[Name | Spec, ...], AsTuple, ListOf(), RoleOf("mixer"), Ref(), Field(min_length=2, max_length=2)
    ]
    """The mixer, and the one that gates it."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        for index, entry in enumerate(self.product):
            yield from mixer_problems(entry, scope, ("product", index))

    def plan(self, scope: Scope) -> ProductPlan:
        main, gate = (plan_mixer(entry, scope) for entry in self.product)
        norm = RMSNormSpec().plan(scope)
        return ProductPlan(
            kind=self.label,
            cost=Cost(flops=2.0 * scope.width, activations=2 * scope.width),
            children=(("main", main), ("gate", gate), ("main_norm", norm), ("gate_norm", norm)),
        )
