"""The language and the plan of Kolmogorov-Arnold feed-forwards."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.feedforward.spec import Hidden, Ratio, hidden_size
from evo.dsl.acts import Word
from evo.dsl.genes import Gene
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.spec import Scope, Spec


@dataclass(frozen=True, kw_only=True)
class KanPlan(BlockPlan):
    """Two layers of edges with `functions` of a basis each, and an activation."""

    builder: ClassVar[str] = "evo.blocks.kan.module:Kan"
    hidden: int
    functions: int
    basis: str
    grid: int
    degree: int
    bound: float
    act: str


class KanSpec(Spec):
    """sum over j of g_j(sum over i of f_ji(x_i)), each edge w act(x) + sum over n of c_n B_n(x) (KAN, Liu et al.
    2404.19756)."""

    kind: ClassVar[str | None] = "kan"
    stacks: ClassVar[bool] = True
    widths_apart: ClassVar[bool] = True

    ratio: Ratio = 1.0
    """Nodes between the layers over width; the product is rounded to a multiple of 8."""
    hidden: Hidden = None
    """The exact number of these, instead of `ratio`."""
    basis: Literal["spline", "gaussian"] = "spline"
    """B-splines, or Gaussians at the ends of the intervals, as wide as these (FastKAN, 2405.06721)."""
    grid: Annotated[int, Field(ge=1, le=1024), Gene(2, 16, "+1")] = 5
    """Intervals of the grid."""
    degree: Annotated[int, Field(ge=1, le=8), Gene(1, 4, "+1")] = 3
    """The degree of splines."""
    bound: Annotated[float, Field(gt=0, le=1000), Gene(0.5, 8, "scale")] = 2.0
    """The grid lies on [-bound, bound]."""
    act: Word = "silu"
    """The activation whose learned multiple an edge has besides."""

    @property
    def unread(self) -> frozenset[str]:
        found = [("ratio", self.hidden is not None), ("degree", self.basis != "spline")]
        return frozenset(name for name, is_unread in found if is_unread)

    @property
    def grows(self) -> frozenset[str]:
        return frozenset({"ratio", "hidden"})

    def plan(self, scope: Scope) -> KanPlan:
        hidden = self.hidden or hidden_size(scope.width, self.ratio)
        functions = self.grid + (self.degree if self.basis == "spline" else 1)
        edges = 1 + functions
        weights = (
            linear("up", hidden, edges * scope.width),
            linear("down", scope.given, edges * hidden, scope.residual_gain, writes_residual=True),
        )
        nodes = scope.width + hidden
        each = 6.0 * self.degree if self.basis == "spline" else 4.0
        return KanPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(flops=matmul_flops(weights) + each * functions * nodes, activations=(1 + 2 * edges) * nodes),
            hidden=hidden,
            functions=functions,
            basis=self.basis,
            grid=self.grid,
            degree=self.degree,
            bound=self.bound,
            act=self.act,
        )
