"""The language and the plan of the recurrence family."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evo.blocks.gated_memory.spec import memory_signals
from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import NO_POSITION, PositionSpec
from evo.blocks.recurrence.conflicts import faults
from evo.blocks.recurrence.decays import DecaySpec
from evo.blocks.recurrence.featured import feature_maps
from evo.blocks.recurrence.fields import RANDOM, SCALED, RecurrenceFields
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, taps, vector
from evo.dsl.spec import Fault, Scope

RIDGE = math.log(math.expm1(0.75))
"""Where the diagonal begins that is added before a sum of k k^T is inverted: softplus of it, and 1/4, are 1."""


@dataclass(frozen=True, kw_only=True)
class RecurrencePlan(BlockPlan):
    """A recurrence of `heads` states of (channels of a key's features, value_dim).

    features: channels of a key behind its feature. rule: its decay in full, None for none. writes: how often a token
    writes. levels: how many states there are for buckets of tokens, 0 for one state of all.
    """

    builder: ClassVar[str] = "evo.blocks.recurrence.module:Recurrence"
    heads: int
    key_heads: int
    key_dim: int
    value_dim: int
    decay: str
    update: str
    feature: str
    features: int
    conv: int
    gate: str
    normalizer: str
    bonus: bool
    rule: DecaySpec | None
    act: str | None
    write: str
    erase: str
    integrator: str
    scale: float | None
    beta_range: float
    gate_at: str
    writes: int
    keys_from_decay: bool
    solve: int
    levels: int
    turns: bool
    ranks: int


class RecurrenceSpec(RecurrenceFields):
    """S_t = A_t S_{t-1} + update(k_t, v_t), y_t = S_t^T q_t, with one matrix state S (key_dim, value_dim) a head.

    Points in it: decay none and feature elu with normalizer sum is linear attention (Katharopoulos et al. 2020); decay
    head is RetNet; decay channel is GLA, and KDA with update delta; decay token, write step and skip are Mamba-2's;
    update delta is DeltaNet, gated if it decays. README.md has the equations.
    """

    kind: ClassVar[str | None] = "recurrence"
    widths_apart: ClassVar[bool] = True

    def problems(self, scope: Scope) -> Iterator[Fault]:
        return faults(self, scope)

    def plan(self, scope: Scope) -> RecurrencePlan:
        key_dim, value_dim = self.dims(scope)
        weights = self._weights(scope, key_dim, value_dim)
        position: BlockPlan = NO_POSITION
        if isinstance(self.position, PositionSpec):
            position = self.position.for_heads(scope, self.heads, key_dim)
        children: list[tuple[str, BlockPlan]] = [("position", position)]
        is_divided = self.normalizer == "sum"
        children += feature_maps(self.feature, self.groups, key_dim, self.draws, scope.context, is_divided)
        if isinstance(self.normalizer, NormSpec):
            children.append(("head_norm", self.normalizer.over_heads(self.heads, value_dim)))
        if isinstance(self.qk_norm, NormSpec):
            children += [(f"{name}_norm", self.qk_norm.over_heads(self.groups * self.ranks, key_dim)) for name in "qk"]
        beside = (self.normalizer == "sum") + (key_dim if self.solve else 0)
        levels = (max(scope.context - 1, 1).bit_length() + 1) if self.levels else 0
        weights += self._read_weights(scope.width, key_dim, levels)
        state = self.heads * self._features(key_dim) * (value_dim + beside) * max(levels, 1)
        streams = sum(size for _, size in self._streams(key_dim, value_dim))
        cost = Cost(
            flops=matmul_flops(weights)
            + (4.0 * self.groups * key_dim * self.draws if self.feature in RANDOM else 0.0)
            + self._mixing_flops(self._features(key_dim), value_dim) * max(levels, 1)
            + self.solve * self._mixing_flops(key_dim, key_dim),
            state=state
            + max(self.conv - 1, 0) * streams
            + (self.heads * (key_dim // 2) if self.turns else 0)
            + (
                self.heads * self.ranks * (self._features(key_dim) + value_dim + beside)
                if self.write == "trapezoid"
                else 0
            ),
            activations=scope.width + (2 if self.conv else 1) * streams + 3 * self.heads * value_dim,
        )
        return RecurrencePlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=tuple(children),
            outputs=memory_signals(self.reading_to, self.heads * value_dim),
            has_state=True,
            heads=self.heads,
            key_heads=self.groups,
            key_dim=key_dim,
            value_dim=value_dim,
            decay=self.decay if isinstance(self.decay, str) else self.decay.label,
            update=self.update,
            feature=self.feature,
            features=self._features(key_dim),
            conv=self.conv,
            gate=self.gate,
            normalizer=self.normalizer if isinstance(self.normalizer, str) else self.normalizer.label,
            bonus=self.bonus,
            rule=self.rule,
            act=self.act or ("silu" if self.conv else None),
            write=self.write,
            erase=self.erased,
            integrator=self.integrator if self.update == "delta" else "explicit",
            scale=self._scale(key_dim),
            beta_range=self.beta_range,
            gate_at=self.gate_at,
            writes=self.written,
            keys_from_decay=self.keys == "decay",
            solve=self.solve,
            levels=levels,
            turns=self.turns,
            ranks=self.ranks,
        )

    def _scale(self, key_dim: int) -> float | None:
        """What queries are multiplied by; None for the root of how wide they are behind their features."""
        if self.scale is not None or self.keeps_channels:
            return self.scale
        return 1.0 if self.feature in SCALED else key_dim**-0.5

    def _mixing_flops(self, key_dim: int, value_dim: int) -> float:
        """Stepwise: write and read the state (4 K V a head), once more each for delta's read and for decay."""
        touches = 2 + self.written * (2 + 2 * (self.update == "delta")) + (self.decay != "none")
        if self.write == "trapezoid":  # once more, of the token before
            touches *= 2
        return float(self.heads * key_dim * value_dim * touches * self.ranks**2)

    def _read_weights(self, width: int, key_dim: int, levels: int) -> tuple[Weight, ...]:
        """What reading a state has weights of."""
        ridge = Weight("ridge", (self.heads, key_dim), Init("constant", RIDGE), ("channel", "channel"))
        gains = Weight("level_gain", (self.heads, levels), ONES, ("channel", "channel"))
        found = (ridge,) if self.solve else ()
        return (*found, linear("level", self.heads * levels, width), gains) if levels else found

    def _rank_weights(self, value_dim: int) -> list[Weight]:
        """Vectors by which a head's value and gate become those of each rank, and what ranks read is summed."""
        if self.ranks == 1:
            return []
        mean = Init("constant", 1.0 / self.ranks)
        starts = {"value_ranks": mean, "out_ranks": mean, **({"gate_ranks": ONES} if self.gate != "none" else {})}
        shape = (self.heads, self.ranks, value_dim)
        return [Weight(name, shape, start, ("channel",) * 3) for name, start in starts.items()]

    def _streams(self, key_dim: int, value_dim: int) -> list[tuple[str, int]]:
        """Queries, keys and values that are projections, and how wide each is."""
        keys, values = self.groups * self.ranks * key_dim, self.heads * value_dim
        own = [] if self.keys == "decay" else [("k", self.written * keys)]
        return [("q", keys), *own, ("v", self.written * values)]

    def _weights(self, scope: Scope, key_dim: int, value_dim: int) -> tuple[Weight, ...]:
        width, values = scope.width, self.heads * value_dim
        streams = self._streams(key_dim, value_dim)
        weights = [linear(name, size, width) for name, size in streams]
        weights.append(linear("o", scope.given, values, scope.residual_gain, writes_residual=True))
        if self.conv:
            weights += [taps(f"{name}_taps", size, self.conv) for name, size in streams]
            if self.conv_bias:
                weights += [vector(f"{name}_taps_bias", size, ZEROS) for name, size in streams]
        if self.gate != "none" and self.gate_rank is None:
            weights.append(linear("gate", values, width))
        elif self.gate != "none":
            assert self.gate_rank is not None
            weights += [linear("gate_down", self.gate_rank, width), linear("gate_up", values, self.gate_rank)]
        if self.skip:
            weights.append(vector("skip", self.heads, ONES))
        if self.has_share:
            weights.append(linear("beta", self.written * self.heads, width))
        if self.write == "channel":
            weights.append(linear("write_gate", values, width))
        if self.erased == "channel":
            weights.append(linear("erase_gate", self.groups * key_dim, width))
        if self.erased == "head":
            weights.append(vector("erase_rate", self.heads, ONES))
        if self.feature_map and self.keys == "own":
            shape, draw = (self.groups, key_dim, key_dim), Init("diagonal", 0, 1.0)
            weights += [Weight(f"{name}_map", shape, draw, ("stack", "out", "in"), "matrix") for name in "qk"]
        if self.turns:
            weights.append(linear("turn", self.groups * (key_dim // 2), width))
        if self.write == "trapezoid":
            weights.append(linear("blend", self.heads, width))
        if self.qk_bias:
            shape = (self.heads * self.ranks, self._features(key_dim))
            weights += [Weight(f"{name}_bias", shape, ONES, ("channel", "channel")) for name in "qk"]
        weights += self._rank_weights(value_dim)
        if self.correct:
            weights.append(vector("correction", self.groups, Init("constant", 0.02)))
        if self.normalizer == "rms":
            weights.append(vector("out_norm", value_dim, ONES))
        if self.bonus:
            weights.append(Weight("bonus", (self.heads, key_dim), Init("normal", 0.5), ("channel", "channel")))
        return (*weights, *(self.rule.weights(width, self.heads, key_dim) if self.rule is not None else ()))
