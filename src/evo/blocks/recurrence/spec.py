"""The language and the plan of the recurrence family."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.position.spec import NO_POSITION, PositionSpec
from evo.dsl.genes import Gene
from evo.dsl.index import kind_class, kinds
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, taps, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec

GATE_RANK = 16
"""Inner width of the per-channel decay's projection (Yang et al. 2023)."""
TURNS = ("queries and keys", "nothing")
"""What a position encoding may act on here: a recurrence has no scores."""


def _turns(kind: str) -> bool:
    position = kind_class("position", kind)
    return issubclass(position, PositionSpec) and position.acts_on in TURNS


@dataclass(frozen=True, kw_only=True)
class RecurrencePlan(BlockPlan):
    """A recurrence of `heads` states of (key_dim, value_dim)."""

    builder: ClassVar[str] = "evo.blocks.recurrence.module:Recurrence"
    heads: int
    key_dim: int
    value_dim: int
    decay: str
    update: str
    feature: str
    conv: int
    gate: str
    normalizer: str
    bonus: bool


class RecurrenceSpec(Spec):
    """S_t = A_t S_{t-1} + update(k_t, v_t), y_t = S_t^T q_t, with one matrix state S (key_dim, value_dim) a head.

    Points in it: decay none and feature elu with normalizer sum is linear attention (Katharopoulos et al. 2020); decay
    head is RetNet; decay channel is GLA; decay token is Mamba-2's form; update delta is DeltaNet, gated if it decays.
    """

    kind: ClassVar[str | None] = "recurrence"

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2")]
    """Heads, each with its own state."""
    key_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of a head's queries and keys; width / heads if left out."""
    value_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 256, "x2", optional=True)] = None
    """Width of a head's values; width / heads if left out."""
    decay: Literal["none", "head", "token", "channel"] = "token"
    """none; head: the constant 1 - 2^(-5-h); token: one learned gate a head and token; channel: one a key channel."""
    update: Literal["outer", "delta"] = "delta"
    """outer adds k v^T; delta first takes out what k already holds, by a learned share."""
    feature: Literal["identity", "l2", "elu"] = "l2"
    """What is done to q and k: nothing, unit length, or elu + 1."""
    conv: Annotated[int, Field(ge=0, le=64), Gene(0, 8, "+1")] = 4
    """Taps of a causal short convolution with silu on q, k and v; 0 for none."""
    gate: Literal["none", "silu", "sigmoid"] = "silu"
    """Output gate, a projection of the input."""
    normalizer: Literal["none", "rms", "sum"] = "rms"
    """rms: RMS norm of each head's output. sum: division by the sum of decayed q.k, as in softmax."""
    bonus: bool = False
    """A learned extra weight of the current token, which then enters the state only afterwards (RWKV-6)."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Turns q and k by position, as RetNet does; nothing if left out (the stage's encoding is not inherited)."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        free = self.key_dim is None or self.value_dim is None
        if free and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set key_dim and value_dim")
            return
        if self.update == "delta" and self.feature != "l2":
            message = f"the delta rule is stable only with keys of unit length, not with feature {self.feature}"
            yield Fault("EVO305", ("feature",), message, "write feature: l2, or update: outer")
        if self.update == "delta" and self.bonus:
            yield Fault("EVO305", ("bonus",), "a bonus belongs to update: outer")
        if self.normalizer == "sum" and self.bonus:
            message = "a bonus may be negative, and normalizer sum divides by a sum that must be positive"
            yield Fault("EVO305", ("bonus",), message, "write normalizer: rms, or leave the bonus out")
        if self.normalizer == "sum" and (self.feature != "elu" or self.update != "outer"):
            message = "normalizer sum divides by a sum that is positive only with feature elu and update outer"
            yield Fault("EVO305", ("normalizer",), message, "write normalizer: rms, or feature: elu and update: outer")
        yield from self._position_problems(scope)

    def _position_problems(self, scope: Scope) -> Iterator[Fault]:
        if self.position is None:
            return
        assert isinstance(self.position, PositionSpec)
        if self.position.acts_on not in TURNS:
            message = f"a recurrence cannot use position {self.position.kind}"
            known = ", ".join(kind for kind in kinds("position") if _turns(kind))
            yield Fault("EVO304", ("position",), message, f"known here: {known}")
            return
        if self.position.acts_on == "nothing":
            message = "a recurrence has no position encoding anyway"
            yield Fault("EVO330", ("position",), message, "remove it", "warning")
        for problem in self.position.attention_problems(self._dims(scope)[0]):
            yield Fault(problem.code, ("position", *problem.path), problem.message, problem.help)

    def _dims(self, scope: Scope) -> tuple[int, int]:
        share = scope.width // self.heads
        return self.key_dim or share, self.value_dim or share

    def plan(self, scope: Scope) -> RecurrencePlan:
        key_dim, value_dim = self._dims(scope)
        weights = self._weights(scope, key_dim, value_dim)
        position: BlockPlan = NO_POSITION
        if isinstance(self.position, PositionSpec):
            position = self.position.for_heads(scope, self.heads, key_dim)
        state = self.heads * key_dim * (value_dim + (self.normalizer == "sum"))
        streams = self.heads * (2 * key_dim + value_dim)
        cost = Cost(
            flops=matmul_flops(weights) + self._mixing_flops(key_dim, value_dim),
            state=state + max(self.conv - 1, 0) * streams,
            activations=scope.width + (2 if self.conv else 1) * streams + 3 * self.heads * value_dim,
        )
        return RecurrencePlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=(("position", position),),
            has_state=True,
            heads=self.heads,
            key_dim=key_dim,
            value_dim=value_dim,
            decay=self.decay,
            update=self.update,
            feature=self.feature,
            conv=self.conv,
            gate=self.gate,
            normalizer=self.normalizer,
            bonus=self.bonus,
        )

    def _mixing_flops(self, key_dim: int, value_dim: int) -> float:
        """Stepwise: write and read the state (4 K V a head), once more each for delta's read and for decay."""
        touches = 4 + 2 * (self.update == "delta") + (self.decay != "none")
        return float(self.heads * key_dim * value_dim * touches)

    def _weights(self, scope: Scope, key_dim: int, value_dim: int) -> tuple[Weight, ...]:
        width, keys, values = scope.width, self.heads * key_dim, self.heads * value_dim
        weights = [linear("q", keys, width), linear("k", keys, width), linear("v", values, width)]
        weights.append(linear("o", width, values, scope.residual_gain, writes_residual=True))
        if self.conv:
            sizes = (("q", keys), ("k", keys), ("v", values))
            weights += [taps(f"{name}_taps", size, self.conv) for name, size in sizes]
        if self.gate != "none":
            weights.append(linear("gate", values, width))
        if self.update == "delta":
            weights.append(linear("beta", self.heads, width))
        if self.normalizer == "rms":
            weights.append(vector("out_norm", value_dim, ONES))
        if self.bonus:
            weights.append(Weight("bonus", (self.heads, key_dim), Init("normal", 0.5), ("channel", "channel")))
        return (*weights, *self._decay_weights(width, keys))

    def _decay_weights(self, width: int, keys: int) -> tuple[Weight, ...]:
        if self.decay == "token":
            return (
                linear("decay", self.heads, width),
                vector("decay_bias", self.heads, Init("timestep", 1e-3, 1e-1)),
                vector("decay_rate", self.heads, Init("uniform", 0.0, math.log(16.0))),
            )
        if self.decay == "channel":
            return (
                linear("decay_down", GATE_RANK, width),
                linear("decay_up", keys, GATE_RANK),
                vector("decay_bias", keys, ZEROS),
            )
        return ()
