"""A candidate: one organism that the search asked about, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass

from evo.evolution.operators.base import WeightSources


@dataclass(frozen=True)
class Candidate:
    """One organism that the search asked about.

    id: `GENERATION/SLOT`, four and two digits. document: canonical YAML. patch: YAML, from the first parent. parents:
    ids. origins: see `Proposal`.
    """

    id: str
    generation: int
    slot: int
    hash: str
    document: str
    patch: str = ""
    operators: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    origins: WeightSources = ()


def candidate_id(generation: int, slot: int) -> str:
    """The name of a candidate."""
    return f"{generation:04d}/{slot:02d}"
