"""The plans of layers and stages. A layer is sublayers on the residual stream, every norm a value in its slot.

One formula serves every wiring, pre, post, sandwich, output-only and parallel:

    x <- after(skip * x + sum_j gain_j * out_j(f_j(in_j(x))))

A branch may be late: what it makes of x is a summand of a later sublayer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from evo.dsl.plan import BlockPlan

SHIFT = "shift"


@dataclass(frozen=True)
class Branch:
    """One summand of a sublayer: gain * out(f(in(x))).

    block, norm_in, norm_out: names of children of the layer; a norm may be None, and branches may share one.
    gain: a number, or the name of a weight of the layer; one called by it and `SHIFT` is added before. late: how many
    sublayers later it is added.
    """

    block: str
    norm_in: str | None = None
    norm_out: str | None = None
    gain: float | str = 1.0
    late: int = 0


@dataclass(frozen=True)
class Sublayer:
    """x <- after(skip * x + the sum of its branches). skip: a number, or the name of a weight of the layer.

    skips_rest: whether that weight is taken from 1.
    """

    branches: tuple[Branch, ...]
    norm_after: str | None = None
    skip: float | str = 1.0
    skips_rest: bool = False

    def norms(self) -> Iterator[str]:
        """The names of its norms, in the order they run, each once."""
        names = [name for branch in self.branches for name in (branch.norm_in, branch.norm_out)]
        yield from dict.fromkeys(name for name in (*names, self.norm_after) if name is not None)


@dataclass(frozen=True, kw_only=True)
class LayerPlan(BlockPlan):
    """One layer. Its children are the blocks and norms that its sublayers name."""

    builder: ClassVar[str] = "evo.blocks.stages.layers.layer:Layer"
    is_layer: ClassVar[bool] = True
    sublayers: tuple[Sublayer, ...]
    wiring: str = ""
    """What people call it: `pre`, `post`, `sandwich`; empty for one written out."""

    def block_names(self) -> tuple[str, ...]:
        """The children that are not norms, in the order they run."""
        return tuple(branch.block for sublayer in self.sublayers for branch in sublayer.branches)

    def norm_names(self) -> tuple[str, ...]:
        """The children that are norms, in the order they run."""
        return tuple(name for sublayer in self.sublayers for name in sublayer.norms())

    def other_names(self) -> tuple[str, ...]:
        """The children that are neither."""
        known = {*self.block_names(), *self.norm_names()}
        return tuple(name for name, _ in self.children if name not in known)

    @property
    def at_first(self) -> LayerPlan:
        """A layer without what it has besides, if it computes the same before it learns; else itself."""
        return self

    def child(self, name: str) -> BlockPlan:
        """The plan of one child. Raises KeyError if there is none."""
        return dict(self.children)[name]

    @property
    def ends_normed(self) -> bool:
        """Whether the layer's output is that of a norm."""
        return bool(self.sublayers) and self.sublayers[-1].norm_after is not None


Reads = tuple[tuple[str, tuple[str, ...]], ...]
"""The inputs of a stage: for each name that the stage knows one by, the stages (or the embedding) that it reads."""


@dataclass(frozen=True, kw_only=True)
class StagePlan(BlockPlan):
    """One node of the graph: a block that reads the outputs of earlier stages by name.

    ends_normed: whether its output is that of a norm, so that none needs to stand before the readout. weights_of: the
    stage whose weights those of its layers are, if not its own.
    """

    name: str
    reads: Reads
    ends_normed: bool = False
    weights_of: str = ""

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        """Its layers by name, in the order they run; a shared one comes several times."""
        for name, child in self.children:
            if isinstance(child, LayerPlan):
                yield name, child
            elif isinstance(child, StagePlan):
                yield from ((f"{name}.{layer}", plan) for layer, plan in child.running_layers())

    @property
    def turns(self) -> int:
        """How often a pass of training runs what it holds, on average."""
        return 1

    def turns_of(self, inner: StagePlan) -> int:
        """The same of one of the stages that it runs."""
        del inner
        return self.turns

    def inner_stages(self) -> Iterator[StagePlan]:
        """The stages that it runs."""
        return (child for _, child in self.children if isinstance(child, StagePlan))

    @property
    def times_read(self) -> int:
        """How often training reads out what it gives, where it is the last stage; 1: only what it gives in the end."""
        return 1

    @property
    def lends(self) -> str:
        """The name of the child that others run again by the stage's name; empty where they run the stage itself."""
        return ""

    @property
    def settings(self) -> dict[str, Any]:
        wiring = {field.name for field in fields(StagePlan)}
        return {name: value for name, value in super().settings.items() if name not in wiring}

    @property
    def sources(self) -> tuple[str, ...]:
        """What it reads as x."""
        return dict(self.reads)["x"]
