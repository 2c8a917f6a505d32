"""Mixers of another package, which no file of evo knows: what they are must follow from what they say of themselves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from evo.blocks.attention.spec import AttentionSpec
from evo.blocks.base import Block, State
from evo.blocks.convolution.spec import ConvolutionSpec
from evo.blocks.flow import Flow
from evo.blocks.parallel.spec import ParallelSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.references import mixer_problems
from evo.dsl.spec import Fault, Ref, RoleOf, Scope, Spec


class PairSpec(Spec):
    """A composite that is told by `kind`, of two mixers under keys of their own."""

    kind: ClassVar[str | None] = "pair"

    first: Annotated[Name | Spec, RoleOf("mixer"), Ref()]
    """One mixer."""
    second: Annotated[Name | Spec, RoleOf("mixer"), Ref()]
    """The other."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from mixer_problems(self.first, scope, ("first",))
        yield from mixer_problems(self.second, scope, ("second",))

    def plan(self, scope: Scope) -> BlockPlan:
        return ParallelSpec(parallel=(self.first, self.second)).plan(scope)


class InheritingSpec(Spec):
    """A mixer that takes the position encoding of its stage, and is no attention."""

    kind: ClassVar[str | None] = "inheriting"

    @property
    def reads_position(self) -> bool:
        return True

    def plan(self, scope: Scope) -> BlockPlan:
        return AttentionSpec(heads=2).plan(scope)


class AheadSpec(ConvolutionSpec):
    """A mixer that sees the future, and has no field that says so."""

    kind: ClassVar[str | None] = "ahead"

    @property
    def is_causal(self) -> bool:
        return False


class BlocksSpec(ConvolutionSpec):
    """A mixer that is called as another role's default kind is."""

    kind: ClassVar[str | None] = "blocks"


class NeedySpec(ConvolutionSpec):
    """A mixer that mutation cannot draw: a required field is fixed."""

    kind: ClassVar[str | None] = "needy"

    file: Annotated[str, FIXED]
    """What nobody can guess."""


@dataclass(frozen=True, kw_only=True)
class LeakyPlan(BlockPlan):
    """A running mean that forgets."""

    builder: ClassVar[str] = "strangers.mixers:Leaky"
    rate: float


class LeakySpec(Spec):
    """o(s) with s_t = rate s_(t-1) + v(x_t): a state, and no settings but its rate."""

    kind: ClassVar[str | None] = "leaky"

    rate: Annotated[float, Field(gt=0, lt=1), Gene(0.1, 0.99, "linear")] = 0.5
    """What is kept of the past at each token."""

    def plan(self, scope: Scope) -> LeakyPlan:
        out = linear("o", scope.width, scope.width, scope.residual_gain, writes_residual=True)
        weights = (linear("v", scope.width, scope.width), out)
        cost = Cost(flops=matmul_flops(weights) + 2.0 * scope.width, state=scope.width, activations=2 * scope.width)
        return LeakyPlan(kind=self.label, weights=weights, cost=cost, has_state=True, rate=self.rate)


@dataclass(frozen=True)
class LeakyState(State):
    """The sum so far, (B, D)."""

    sum_BD: Tensor


class Leaky(Block):
    """See the spec."""

    v: nn.Parameter
    o: nn.Parameter

    def __init__(self, plan: LeakyPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.rate = plan.rate

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        steps_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        ages_TT = steps_T[:, None] - steps_T
        keeps_TT = torch.where(ages_TT >= 0, self.rate ** ages_TT.clamp_min(0).to(x_BTD.dtype), 0.0)
        if flow.segments_BT is not None:
            same_BTT = flow.segments_BT[:, :, None] == flow.segments_BT[:, None, :]
            keeps_TT = keeps_TT * same_BTT
        values_BTD = flow.project(x_BTD, self.v)
        return flow.project(keeps_TT.to(values_BTD.dtype) @ values_BTD, self.o)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> LeakyState:
        """Nothing summed."""
        return LeakyState(torch.zeros(batch, self.v.shape[0], device=device, dtype=dtype))

    def extend(self, x_BTD: Tensor, state: LeakyState, flow: Flow) -> tuple[Tensor, LeakyState]:
        """The next T positions."""
        sum_BD, sums = state.sum_BD, []
        for value_BD in flow.project(x_BTD, self.v).unbind(1):
            sum_BD = self.rate * sum_BD + value_BD
            sums.append(sum_BD)
        return flow.project(torch.stack(sums, 1), self.o), LeakyState(sum_BD)


@dataclass(frozen=True, kw_only=True)
class LookupPlan(BlockPlan):
    """Attention of one head to what the stage reads as `kv`."""

    builder: ClassVar[str] = "strangers.mixers:Lookup"


class LookupSpec(Spec):
    """o(softmax(q(x) k(kv)) v(kv)), causal, of one head: the mixer of a stage that reads a second input."""

    kind: ClassVar[str | None] = "lookup"

    def plan(self, scope: Scope) -> LookupPlan:
        out = linear("o", scope.width, scope.width, scope.residual_gain, writes_residual=True)
        weights = (*(linear(name, scope.width, scope.width) for name in "qkv"), out)
        pairs = 2.0 * scope.width * (scope.context + 1)
        cost = Cost(matmul_flops(weights) + pairs, cache_per_token=2 * scope.width, activations=5 * scope.width)
        return LookupPlan(kind=self.label, weights=weights, cost=cost, inputs=("kv",), has_state=True)


@dataclass(frozen=True)
class LookupState(State):
    """The keys and values so far, (B, T, D)."""

    k_BTD: Tensor
    v_BTD: Tensor


class Lookup(Block):
    """See the spec."""

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> LookupState:
        """Nothing seen."""
        empty_B0D = torch.empty(batch, 0, self.q.shape[0], device=device, dtype=dtype)
        return LookupState(empty_B0D, empty_B0D)

    def extend(self, x_BTD: Tensor, state: LookupState, flow: Flow) -> tuple[Tensor, LookupState]:
        """The next T positions."""
        read_BTD = flow.signals["kv"]
        q_BTD = flow.project(x_BTD, self.q)
        k_BTD = torch.cat([state.k_BTD.to(q_BTD.dtype), flow.project(read_BTD, self.k)], 1)
        v_BTD = torch.cat([state.v_BTD.to(q_BTD.dtype), flow.project(read_BTD, self.v)], 1)
        new, seen = q_BTD.shape[1], k_BTD.shape[1]
        sees_TS = torch.ones(new, seen, dtype=torch.bool, device=x_BTD.device).tril(seen - new)
        scores_BTS = (q_BTD @ k_BTD.mT * q_BTD.shape[-1] ** -0.5).masked_fill(~sees_TS, -torch.inf)
        return flow.project(scores_BTS.softmax(-1) @ v_BTD, self.o), LookupState(k_BTD, v_BTD)
