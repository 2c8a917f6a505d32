"""The language and the plan of attention whose heads are generated."""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from evo.blocks.attention.plan import AttentionPlan
from evo.blocks.attention.spec import AttentionSpec
from evo.dsl.plan import table
from evo.dsl.spec import Scope, Spec


@dataclass(frozen=True, kw_only=True)
class HypernetworkPlan(AttentionPlan):
    """Attention, and a vector for each head."""

    builder: ClassVar[str] = "hypernetwork.module:Hypernetwork"


class HypernetworkSpec(AttentionSpec):
    """Attention whose q, k, v and o a hypernetwork makes of a vector z_h for each head: W_h = sum_e z_he B_e.

    There are as many templates B as heads (Ha et al. 2016, "HyperNetworks", 3.1: a linear map from an embedding to the
    weights; there the embedding is a layer's).
    """

    kind: ClassVar[str | None] = "hypernetwork"

    def plan(self, scope: Scope) -> HypernetworkPlan:
        made = super().plan(scope)
        # sums over templates behind q, k and v and before o are the same as sums of the templates themselves
        flops = made.cost.flops + 4 * 2.0 * self.heads**2 * made.head_dim
        own: dict[str, Any] = {field.name: getattr(made, field.name) for field in fields(made)}
        own |= {
            "weights": (*made.weights, table("heads", self.heads, self.heads, self.heads**-0.5)),
            "cost": replace(made.cost, flops=flops),
        }
        return HypernetworkPlan(**own)

    def beside(self, count: int, width: int) -> Spec | None:
        """None: templates are shared."""
        del count, width
        return None
