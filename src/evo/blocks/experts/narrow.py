"""The language and the plan of the narrow vector that a router may make logits of."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.acts import Word
from evo.dsl.genes import FIXED, Gene
from evo.dsl.organism import NAME
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class NarrowPlan(BlockPlan):
    """A narrow vector of `width` channels that passes `depth` hidden layers."""

    builder: ClassVar[str] = "evo.blocks.experts.network:Network"
    width: int
    depth: int
    act: str


class NarrowSpec(Spec):
    """A router's logits are a map of hidden layers, act(W h + b), on norm(r), r = W x + b (+ gain * the r before)."""

    called: ClassVar[str | None] = "this router's network"

    width: Annotated[int, Field(ge=1, le=65536), Gene(8, 512, "x2")] = 64
    """Channels of r and of the hidden layers."""
    depth: Annotated[int, Field(ge=0, le=8), Gene(0, 3, "+1")] = 2
    """Hidden layers between r and the logits; with none and no norm, logits are a map of low rank."""
    act: Annotated[Word, FIXED] = "gelu"
    """The activation of hidden layers."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """What r passes before them."""
    bias: Annotated[bool, FIXED] = True
    """Whether r and the hidden layers have biases."""
    to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which routers of later layers may add r to theirs."""
    from_: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """The name of an earlier router's r, added times a learned gain a channel: a mean over depth that falls
    exponentially where every layer has the same name here and under `to` (ZAYA1, 2511.17127)."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.depth else frozenset({"act"})

    def faults(self) -> Iterator[Fault]:
        """What its norm cannot be; paths are relative to this spec."""
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(self.width, ("norm",))

    def network(self, scope: Scope) -> NarrowPlan:
        """The plan of what stands before the logits."""
        weights: list[Weight] = [linear("in", self.width, scope.width)]
        weights += [linear(f"hidden{layer}", self.width, self.width) for layer in range(self.depth)]
        if self.bias:
            weights += [vector(f"{weight.name}_bias", self.width, ZEROS) for weight in weights]
        if self.from_ is not None:
            weights.append(vector("earlier", self.width, ONES))
        norm = self.norm
        inside = replace(scope, width=self.width)
        return NarrowPlan(
            kind="router network",
            weights=tuple(weights),
            cost=Cost(flops=matmul_flops(tuple(weights)), activations=self.width * (1 + 2 * self.depth)),
            children=(("norm", norm.plan(inside)),) if isinstance(norm, NormSpec) else (),
            inputs=self._signals(self.from_),
            outputs=self._signals(self.to),
            width=self.width,
            depth=self.depth,
            act=self.act,
        )

    def _signals(self, name: str | None) -> tuple[str, ...]:
        return () if name is None else (f"router vectors of {name} ({self.width} channels)",)
