"""What every emitter is: it sees the search as it stands, and makes one child at a time."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

from evo.archive.cvt import CVTArchive
from evo.base.streams import Stream
from evo.compiler.plan import Plan
from evo.dsl.emitter import EmitterSpec
from evo.dsl.evolve import EvolveSpec
from evo.evolution.journal import Journal
from evo.evolution.mutate import Child


@dataclass(frozen=True)
class Situation:
    """A search as it stands before a child is made.

    archive: the working one, never empty. journal: every candidate and every evaluation so far. max_flops: the most
    forward FLOPs per token that a child may cost. scale: how large mutations are, in (0, 1]. known: content hashes
    that exist.
    """

    evolve: EvolveSpec
    archive: CVTArchive
    journal: Journal
    max_flops: float
    scale: float
    known: set[str]

    def accepts(self, child: Child, plan: Plan) -> bool:
        """Whether a child is new and cheap enough."""
        return plan.flops_per_token <= self.max_flops and child.hash not in self.known


@dataclass(frozen=True)
class Offspring:
    """A child with the ids of its parents; its patch is from the first."""

    child: Child
    parents: tuple[str, ...]


class Emitter(Protocol):
    """A source of children."""

    def emit(self, situation: Situation, stream: Stream) -> Offspring | None:
        """An acceptable child, or None if none was found: a pure function of its arguments."""
        ...


def make_emitter(spec: EmitterSpec) -> Emitter:
    """The emitter of a spec."""
    module, _, name = spec.builder.partition(":")
    return getattr(importlib.import_module(module), name)(spec)
