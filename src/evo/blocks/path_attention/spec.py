"""The language and the plan of PaTH attention."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, taps, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec, dividing


@dataclass(frozen=True, kw_only=True)
class PathAttentionPlan(BlockPlan):
    """`heads` queries over `kv_heads` keys and values of width `head_dim`."""

    builder: ClassVar[str] = "evo.blocks.path_attention.module:PathAttention"
    heads: int
    kv_heads: int
    head_dim: int
    conv: int
    beta_range: float
    scale: float


class PathAttentionSpec(Spec):
    """softmax(k_s H_{s+1} ... H_t q_t) v, H_j = I - beta_j w_j w_j^T made of token j (PaTH, Yang et al. 2505.16381)."""

    kind: ClassVar[str | None] = "path_attention"
    widths_apart: ClassVar[bool] = True

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Query heads."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True), WIDENING] = None
    """Heads of keys, values and Householder matrices, each serving heads / kv_heads queries; as many as heads if left
    out."""
    head_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of a head; width / heads if left out."""
    rank: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 64, "x2", optional=True)] = 32
    """Width that the projection of w passes; null for one map of x."""
    conv: Annotated[int, Field(ge=0, le=64), Gene(0, 8, "+1")] = 3
    """Taps of a causal convolution of w, with silu; 0 for neither."""
    beta_range: Annotated[float, Field(gt=0, le=2), FIXED] = 2.0
    """The largest beta; above 1, a matrix may reflect."""
    qk_norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of q and one of k."""
    forget: bool = False
    """Whether a gate of each head and token lowers what all earlier ones count for (PaTH-FoX)."""
    scale: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What scores are multiplied by; head_dim ** -0.5 if left out."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.head_dim is None and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set head_dim")
            return
        if self.heads % self._groups:
            message = f"{self._groups} kv_heads do not divide {self.heads} heads"
            yield Fault("EVO301", ("kv_heads",), message, dividing(self.heads))
        if isinstance(self.qk_norm, NormSpec):
            for count in {self.heads, self._groups}:
                yield from self.qk_norm.head_problems(count, self._head_dim(scope), ("qk_norm",))

    @property
    def _groups(self) -> int:
        return self.kv_heads or self.heads

    def _head_dim(self, scope: Scope) -> int:
        return self.head_dim or scope.width // self.heads

    def plan(self, scope: Scope) -> PathAttentionPlan:
        head_dim, groups = self._head_dim(scope), self._groups
        queries, keys, pairs = self.heads * head_dim, groups * head_dim, (scope.context + 1) / 2
        weights = self._weights(scope, queries, keys)
        children: tuple[tuple[str, BlockPlan], ...] = ()
        if isinstance(self.qk_norm, NormSpec):
            sizes = (("q_norm", self.heads), ("k_norm", groups))
            children = tuple((name, self.qk_norm.over_heads(count, head_dim)) for name, count in sizes)
        cost = Cost(
            flops=matmul_flops(weights) + (4.0 * queries + 4.0 * keys) * pairs,
            cache_per_token=2 * keys + (self.heads if self.forget else 0),
            state=max(self.conv - 1, 0) * keys,
            activations=scope.width + 2 * queries + 4 * keys,
        )
        return PathAttentionPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=children,
            has_state=True,
            heads=self.heads,
            kv_heads=groups,
            head_dim=head_dim,
            conv=self.conv,
            beta_range=self.beta_range,
            scale=head_dim**-0.5 if self.scale is None else self.scale,
        )

    def _weights(self, scope: Scope, queries: int, keys: int) -> tuple[Weight, ...]:
        width = scope.width
        weights = [linear("q", queries, width), linear("k", keys, width), linear("v", keys, width)]
        if self.rank is None:
            weights.append(linear("w", keys, width))
        else:
            weights += [linear("w_down", self.rank, width), linear("w_up", keys, self.rank)]
        if self.conv:
            weights.append(taps("w_taps", keys, self.conv))
        weights += [linear("beta", self._groups, width), vector("beta_bias", self._groups, ZEROS)]
        if self.forget:
            weights.append(linear("forget_gate", self.heads, width))
            weights.append(vector("forget_gate_bias", self.heads, Init("constant", 4.0)))
        weights.append(linear("o", scope.given, queries, scope.residual_gain, writes_residual=True))
        return tuple(weights)
