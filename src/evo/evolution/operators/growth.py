"""Operators that only add: what the parent computed, the child computes before it learns (Net2Net, Chen et al. 2016).

`keeps` says whether a change does; these operators propose ones that mostly do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evo.base.diagnostics import DiagnosticError
from evo.blocks.streams.spec import StreamsSpec
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve, stages_of
from evo.dsl.document import Document
from evo.dsl.genes import Gene
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.patch import apply, rewrite
from evo.dsl.paths import stage_path
from evo.dsl.plan import BlockPlan
from evo.dsl.spec import INPUT
from evo.dsl.tree import Place
from evo.evolution.composites import around, composites, inside
from evo.evolution.operators.base import Operator, Proposal, WeightSources, entry, moved
from evo.evolution.operators.layers import Insert, draw_mixer, places
from evo.evolution.operators.wiring import edges, kept_gains, rewired
from evo.evolution.sample import draw_spec, drawable, raise_number
from evo.evolution.sites import sites


@dataclass(frozen=True)
class Widen:
    """Raises a number that leaves the function as it was: hidden units, taps."""

    name: str = "widen"
    family: str = "grow"

    def sites(self, document: Document) -> Sequence[Place]:
        places = list(sites(document))
        read_whole = {site.path[:-1] for site in places if site.owner.recasts_maps}
        found = (site for site in places if site.field.name in site.owner.grows)
        found = (site for site in found if not any(site.path[: len(path)] == path for path in read_whole))
        return [site for site in found if site.field.meta(Gene) is not None and site.value is not None]

    def propose(self, document: Document, site: Place, scale: float, rng: np.random.Generator) -> Proposal | None:
        gene = site.field.meta(Gene)
        assert gene is not None
        value = raise_number(site.value, gene, site.field.info, scale, rng)
        return None if value == site.value else Proposal(rewrite(document, {site.path: value}))


@dataclass(frozen=True)
class Deepen:
    """Lengthens a stage by a layer that adds nothing at first."""

    name: str = "deepen"
    family: str = "grow"

    def sites(self, document: Document) -> Sequence[int]:
        return [i for i, stage in enumerate(stages_of(document.organism)) if stage.longer(1) is not None]

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale, rng
        stages = stages_of(document.organism)
        longer = stages[site].longer(1)
        assert longer is not None
        stages[site] = longer
        return Proposal(rewired(document, stages, edges(document)))


@dataclass(frozen=True)
class AddBranch:
    """Sets a fresh mixer, its output zero at first, beside one that is there, or a condition around it."""

    name: str = "add_branch"
    family: str = "grow"

    def sites(self, document: Document) -> Sequence[Place]:
        return [place for place in places(document, "mixer") if not inside(place.value)]

    def propose(self, document: Document, site: Place, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        kinds = composites()
        if not kinds:
            return None
        kind = kinds[int(rng.integers(len(kinds)))]
        mixers = around(kind, site.value, lambda: draw_mixer(document, rng), rng)
        if mixers is None:
            return None
        patch = rewrite(document, {site.path: mixers})
        try:
            child = apply(patch, document).document
            return Proposal(patch, inner_rows(resolve(document.organism), resolve(child.organism)))
        except DiagnosticError:
            return None


@dataclass(frozen=True)
class AddSource:
    """Adds a skip connection from an earlier stage, with gains that start at zero."""

    name: str = "add_source"
    family: str = "grow"

    def sites(self, document: Document) -> Sequence[int]:
        return range(1, len(document.organism.stages))

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        stages, reads = stages_of(document.organism), edges(document)
        earlier = [INPUT, *(stage.name for stage in stages[:site])]
        missing = [name for name in earlier if name not in reads[site]]
        if not missing:
            return None
        added, before = missing[int(rng.integers(len(missing)))], reads[site]
        reads[site] = tuple(name for name in earlier if name in before or name == added)
        return Proposal(rewired(document, stages, reads), kept_gains(stages[site].name, before, reads[site]))


@dataclass(frozen=True)
class AddStreams:
    """Gives a stage several residual streams that compute what its one did."""

    name: str = "add_streams"
    family: str = "grow"

    def sites(self, document: Document) -> Sequence[Place]:
        return [site for site in sites(document) if site.role == "streams" and site.value is None]

    def propose(self, document: Document, site: Place, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        drawn = [draw_spec("streams", rng, kind) for kind in drawable("streams")]
        plain = [spec for spec in drawn if isinstance(spec, StreamsSpec) and spec.is_plain_at_first]
        if not plain:
            return None
        return Proposal(rewrite(document, {site.path: plain[int(rng.integers(len(plain)))]}))


GROWING: tuple[tuple[Operator, float], ...] = (
    (Widen(), 0.3),
    (Deepen(), 0.2),
    (Insert(), 0.2),
    (AddBranch(), 0.2),
    (AddSource(), 0.1),
    (AddStreams(), 0.05),
)
"""Every operator that adds, with how often it is tried first."""


def inner_rows(parent: Plan, child: Plan) -> WeightSources:
    """The rows of blocks of the parent that stand in one of the child: the first summand of a sum, with a gain of one,
    or what it begins as."""
    known = dict(parent.named_blocks())
    rows: list[tuple[str, int, str]] = []
    for path, block in child.named_blocks():
        if path in known and _became_sum(known[path], block):
            rows += _summand_rows(path, block)
        elif path in known and _was_wrapped(known[path], block):
            rows += moved(f"{path}.{block.begins_as}", path)
    return (*rows, *_adapters_along(child, rows))


def _adapters_along(child: Plan, rows: Sequence[tuple[str, int, str]]) -> WeightSources:
    """The same rows for adapters of uses, which lie beside the stage that runs under the names of its blocks."""
    stages, found = {stage.name: stage for stage in child.stages}, list[tuple[str, int, str]]()
    for path, stage in child.named_blocks():
        if not isinstance(stage, StagePlan):
            continue
        at, other = (stage_path(stage.weights_of), stages[stage.weights_of]) if stage.weights_of else (path, stage)
        run = f"{at}.{other.lends}." if other.lends else f"{at}."
        inside = [(new.removeprefix(run), of, old.removeprefix(run)) for new, of, old in rows if new.startswith(run)]
        for name in (name for name, block in stage.children if not any(block.blocks())):
            found += [(f"{path}.{name}.{new}", of, f"{path}.{name}.{old}") for new, of, old in inside]
    return tuple(found)


def _became_sum(old: BlockPlan, new: BlockPlan) -> bool:
    return bool(new.summed_by) and not old.summed_by and new.children[0][1].kind == old.kind


def _was_wrapped(old: BlockPlan, new: BlockPlan) -> bool:
    return bool(new.begins_as) and not old.begins_as and dict(new.children)[new.begins_as].kind == old.kind


def _summand_rows(path: str, block: BlockPlan) -> WeightSources:
    inner, gain = f"{path}.{block.children[0][0]}", entry(f"{path}.{block.summed_by}", 0)
    return (*moved(inner, path), (gain, 0, gain))


def keeps(parent: Plan, child: Plan) -> bool:
    """Whether a child that only adds to its parent, and starts from its weights, computes what the parent does.

    What is new must start as nothing: layers that pass the stream on, and blocks whose last maps, all zero, make their
    outputs zero. What is old must not have other settings, because it stands elsewhere or the organism is deeper.
    """
    if (parent.width, parent.vocab) != (child.width, child.vocab):
        return False
    old, new = parent.layers, child.layers
    return (
        old.keys() <= new.keys()
        and all(_is_open(new[path]) for path in new.keys() - old.keys())
        and all(_same(old[path], new[path]) for path in old)
        and [stage.ends_normed for stage in parent.stages[-1:]] == [stage.ends_normed for stage in child.stages[-1:]]
    )


def _is_open(layer: BlockPlan) -> bool:
    """Whether a layer passes the stream on while its blocks are silent, as they are at first."""
    if not isinstance(layer, LayerPlan):
        return False
    layer = layer.at_first
    passes = not layer.other_names() and all(part.skip == 1.0 and part.norm_after is None for part in layer.sublayers)
    return passes and all(_is_silent(layer.child(name)) for name in layer.block_names())


def _is_silent(block: BlockPlan) -> bool:
    """Whether a new block adds nothing at first, and changes no block behind it."""
    return block.can_be_silent and not any(inner.outputs for _, inner in block.named_blocks(""))


def _same(old: BlockPlan, new: BlockPlan) -> bool:
    """Whether a block that was there computes the same, but for what grew in it."""
    if isinstance(new, LayerPlan) and type(new) is not type(old):
        new = new.at_first
    if _became_sum(old, new):
        (_, first), *others = new.children
        return _same(old, first) and all(_is_silent(other) for _, other in others)
    if _was_wrapped(old, new):
        return _same(old, dict(new.children)[new.begins_as])
    shapes = [(weight.name, weight.shape) for weight in old.weights] == [(w.name, w.shape) for w in new.weights]
    if old.kind != new.kind or (shapes and old.settings != new.settings):
        return False
    pairs = zip(old.children, new.children, strict=False)
    return len(old.children) == len(new.children) and all(_same(o, n) for (_, o), (_, n) in pairs)
