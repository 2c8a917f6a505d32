"""The resolved form of a block: every dimension a concrete number, every weight with its shape and initial law.

A block's spec makes its plan, the module is built from the plan's weights, and the cost is counted from the same
weights; so counted parameters equal built parameters, always.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from evo.dsl.spec import Spec

Use = Literal["linear", "table", "taps", "vector"]


@dataclass(frozen=True)
class Init:
    """How a weight starts. Draws depend on the seed and the weight's own path alone.

    normal: N(0, a²). constant: a. uniform: U[a, b]. timestep: inverse softplus of a log-uniform draw from [a, b].
    """

    law: Literal["normal", "constant", "uniform", "timestep"]
    a: float
    b: float = 0.0


ZEROS = Init("constant", 0.0)
ONES = Init("constant", 1.0)


@dataclass(frozen=True)
class Weight:
    """One parameter tensor.

    use: `linear` is (out, in) and multiplies every token; `table` is (rows, width) and is looked up; `taps` is (width,
    taps) of a depthwise convolution; `vector` is anything small (gains, biases, rates).
    """

    name: str
    shape: tuple[int, ...]
    init: Init
    use: Use = "vector"

    @property
    def count(self) -> int:
        """The number of parameters."""
        return math.prod(self.shape)


def linear(name: str, out_features: int, in_features: int, gain: float = 1.0) -> Weight:
    """A matrix applied to every token, drawn from N(0, gain² / in_features)."""
    return Weight(name, (out_features, in_features), Init("normal", gain / math.sqrt(in_features)), "linear")


@dataclass(frozen=True)
class Cost:
    """What one token costs in one block, on average over a full context.

    flops: forward floating-point operations (a multiply-add is two), parameters included. cache_per_token: values kept
    for every token seen while decoding (keys and values), until `cache_limit` tokens if that is set. state: values of
    fixed size kept while decoding. activations: values kept for the backward pass.
    """

    flops: float = 0.0
    cache_per_token: int = 0
    cache_limit: int | None = None
    state: int = 0
    activations: int = 0


@dataclass(frozen=True)
class BlockPlan:
    """One block, ready to be built by `builder` ("package.module:Class").

    settings: the concrete numbers its module reads. children: blocks it contains, received built.
    """

    kind: str
    builder: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    weights: tuple[Weight, ...] = ()
    cost: Cost = Cost()
    children: tuple[tuple[str, BlockPlan], ...] = ()

    def named_weights(self, prefix: str) -> Iterator[tuple[str, Weight]]:
        """Every weight of this block and those it contains, by dotted path."""
        for weight in self.weights:
            yield f"{prefix}.{weight.name}", weight
        for name, child in self.children:
            yield from child.named_weights(f"{prefix}.{name}")

    def blocks(self) -> Iterator[BlockPlan]:
        """This block and all that it contains."""
        yield self
        for _, child in self.children:
            yield from child.blocks()

    @property
    def parameters(self) -> int:
        """The number of parameters, children included."""
        return sum(weight.count for _, weight in self.named_weights(""))

    @property
    def flops(self) -> float:
        """Forward floating-point operations per token, children included."""
        return sum(block.cost.flops for block in self.blocks())


def matmul_flops(weights: tuple[Weight, ...]) -> float:
    """Two operations for every parameter that multiplies every token."""
    return 2.0 * sum(weight.count for weight in weights if weight.use in ("linear", "taps"))


@dataclass(frozen=True)
class Scope:
    """What a block can see of the organism around it.

    depth: layers of the whole organism. position: the stage's encoding. visiting: names being looked into, outermost
    first.
    """

    width: int
    context: int
    depth: int
    position: Spec
    pseudopods: Mapping[str, Spec] = field(default_factory=dict[str, Spec])
    visiting: tuple[str, ...] = ()

    @property
    def residual_gain(self) -> float:
        """The gain of a projection that writes into the residual stream: two writers a layer (Radford et al. 2019)."""
        return 1.0 / math.sqrt(2 * self.depth)
