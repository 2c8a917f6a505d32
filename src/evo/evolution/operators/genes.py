"""Operators that move one gene: a number along its scale, a choice to another option."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evo.compiler.scale import widths
from evo.dsl.document import Document
from evo.dsl.genes import Gene
from evo.dsl.patch import rewrite
from evo.dsl.spec import Spec
from evo.dsl.tree import Place
from evo.evolution.operators.base import Proposal
from evo.evolution.sample import choices, draw_spec, drawable, move_number, waits
from evo.evolution.sites import sites


@dataclass(frozen=True)
class Number:
    """Moves a numeric gene to a neighbouring value."""

    name: str = "number"
    family: str = "tune"

    def sites(self, document: Document) -> Sequence[Place]:
        genes = (site for site in sites(document) if site.field.meta(Gene) is not None)
        return [site for site in genes if site.value is not None or not waits(site.field)]

    def propose(self, document: Document, site: Place, scale: float, rng: np.random.Generator) -> Proposal | None:
        value = move_number(site.value, site.field.meta(Gene), site.field.info, scale, rng)
        return None if value == site.value else Proposal(rewrite(document, {site.path: value}))


@dataclass(frozen=True)
class Resize:
    """Makes the stream wider or narrower, and what goes by its width with it, so that heads keep theirs."""

    name: str = "resize"
    family: str = "tune"

    def sites(self, document: Document) -> Sequence[int]:
        return (document.organism.width,)

    def propose(self, document: Document, site: int, scale: float, rng: np.random.Generator) -> Proposal | None:
        sign = 1 if rng.random() < 0.5 else -1
        changes = widths(document, math.exp(rng.normal() * 0.5 * scale + sign * 0.1))
        return None if changes["organism", "width"] == site else Proposal(rewrite(document, dict(changes)))


@dataclass(frozen=True)
class Choice:
    """Flips a boolean, picks another literal, or another kind of position, norm, stencil, optimizer or schedule."""

    name: str = "choice"
    family: str = "tune"

    def sites(self, document: Document) -> Sequence[Place]:
        return [site for site in sites(document) if _has_choice(site)]

    def propose(self, document: Document, site: Place, scale: float, rng: np.random.Generator) -> Proposal | None:
        del scale
        value = _other_kind(site, rng) if site.field.kind else _other_option(site, rng)
        return Proposal(rewrite(document, {site.path: value}))


def _has_choice(site: Place) -> bool:
    field = site.field
    if field.kind:
        return not field.many and not field.table and bool(_other_kinds(site))
    return len(choices(field.info)) > 1


def _other_option(site: Place, rng: np.random.Generator) -> Any:
    options = [option for option in choices(site.field.info) if option != site.value]
    return options[int(rng.integers(len(options)))]


def _other_kind(site: Place, rng: np.random.Generator) -> Spec | str | None:
    assert site.field.kind is not None
    others = _other_kinds(site)
    kind = others[int(rng.integers(len(others)))]
    if kind in site.field.words:
        return kind
    return draw_spec(site.field.kind.role, rng, kind) if kind else None


def _other_kinds(site: Place) -> list[str]:
    """What a field may hold instead: words, kinds that no word stands for, and empty text for nothing."""
    assert site.field.kind is not None
    present = site.value.kind if isinstance(site.value, Spec) else None
    is_optional = not site.field.info.is_required() and site.field.default is None
    words = site.field.words
    others = [word for word in words if word != site.value]
    others += [kind for kind in drawable(site.field.kind.role) if kind != present and kind not in words]
    return [*others, ""] if is_optional and present is not None else others
