"""The plan of a whole organism: what the cost model counts and the compiler builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from evo.dsl.plan import BlockPlan, Weight


@dataclass(frozen=True)
class LayerPlan:
    """One layer: a mixer and a feed-forward, each with its norms. `path` names its weights; layers may share one."""

    path: str
    mixer: BlockPlan
    ffn: BlockPlan | None
    norm: BlockPlan
    place: str

    def sublayers(self) -> Iterator[tuple[str, BlockPlan]]:
        """The mixer and the feed-forward, if there is one."""
        yield "mixer", self.mixer
        if self.ffn is not None:
            yield "ffn", self.ffn

    def blocks(self) -> Iterator[tuple[str, BlockPlan]]:
        """Every block of the layer by dotted path, norms included."""
        for name, block in self.sublayers():
            yield f"{self.path}.{name}", block
            yield f"{self.path}.{name}_norm", self.norm
            if self.place == "sandwich":
                yield f"{self.path}.{name}_out_norm", self.norm


@dataclass(frozen=True)
class StagePlan:
    """A run of layers that reads the outputs of earlier stages, added up with gains if there are several."""

    name: str
    sources: tuple[str, ...]
    layers: tuple[LayerPlan, ...]
    merge: Weight | None


@dataclass(frozen=True)
class Plan:
    """One organism with every dimension a concrete number.

    max_positions: the longest sequence it can read; None where there is no last position.
    """

    width: int
    vocab: int
    context: int
    embedding: tuple[Weight, ...]
    stages: tuple[StagePlan, ...]
    final_norm: BlockPlan | None
    readout: Weight | None
    soft_cap: float | None
    max_positions: int | None

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        """Every layer in the order it runs."""
        return tuple(layer for stage in self.stages for layer in stage.layers)

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """Every distinct parameter tensor by dotted path: the keys of the built module's state dict."""
        named = {f"embedding.{weight.name}": weight for weight in self.embedding}
        for stage in self.stages:
            if stage.merge is not None:
                named[f"stages.{stage.name}.merge"] = stage.merge
            for layer in stage.layers:
                for path, block in layer.blocks():
                    named.update(block.named_weights(path))
        if self.final_norm is not None:
            named.update(self.final_norm.named_weights("final_norm"))
        if self.readout is not None:
            named["readout.weight"] = self.readout
        return named

    @property
    def parameters(self) -> int:
        """The number of distinct parameters."""
        return sum(weight.count for weight in self.weights.values())

    @property
    def flops_per_token(self) -> float:
        """Forward floating-point operations per token over a full context, readout included."""
        blocks = sum(block.flops for layer in self.layers for _, block in layer.blocks())
        merges = sum(2.0 * stage.merge.count for stage in self.stages if stage.merge is not None)
        final = self.final_norm.flops if self.final_norm is not None else 0.0
        return blocks + merges + final + 2.0 * self.width * self.vocab

    @property
    def cache_per_token(self) -> int:
        """Values that decoding keeps for every further token (growing caches only, windows included until full)."""
        return sum(block.cost.cache_per_token for block in self._mixer_blocks())

    def cache_values(self, tokens: int) -> int:
        """Values kept while decoding after so many tokens: caches and states."""
        total = 0
        for block in self._mixer_blocks():
            limit = block.cost.cache_limit
            kept = tokens if limit is None else min(tokens, limit)
            total += block.cost.cache_per_token * kept + block.cost.state
        return total

    @property
    def state(self) -> int:
        """Values of fixed size kept while decoding."""
        return sum(block.cost.state for block in self._mixer_blocks())

    @property
    def activations_per_token(self) -> int:
        """Values kept for the backward pass per token: an estimate that ignores what fusion saves."""
        blocks = sum(b.cost.activations for layer in self.layers for _, top in layer.blocks() for b in top.blocks())
        return blocks + self.width * (2 + len(self.layers)) + self.vocab

    def _mixer_blocks(self) -> Iterator[BlockPlan]:
        for layer in self.layers:
            yield from layer.mixer.blocks()
