"""The report mapping, read once: what the sections ask for, with None where the run has nothing to say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

from evo.dsl.task import Score
from evo.report.page.figures import finite

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Reading:
    """A report, as `evo.report.search.search_report` makes it or as search_report.json holds it."""

    report: Record

    @property
    def path(self) -> str:
        """The run directory as it was given."""
        return str(self.report.get("run") or "RUN")

    @property
    def name(self) -> str:
        """What the run is called: the last step of its path."""
        return PurePath(self.path).name or self.path

    @cached_property
    def primary(self) -> Score:
        """The score that the search improved."""
        return Score(**self.report["score"])

    def score(self, record: Record | None) -> float | None:
        """The primary score of a variant, or of a step of a line."""
        return finite((record or {}).get(self.primary.name))

    @cached_property
    def variants(self) -> list[Record]:
        """Every candidate, in the order of the journal."""
        return list(self.report.get("variants") or [])

    @cached_property
    def by_id(self) -> dict[str, Record]:
        """The same by their ids."""
        return {variant["id"]: variant for variant in self.variants}

    @property
    def generations(self) -> list[Record]:
        """The summaries of the generations, first first."""
        return list(self.report.get("generations") or [])

    @property
    def last(self) -> Record:
        """The last generation's summary; empty if there is none."""
        return self.generations[-1] if self.generations else {}

    @property
    def best(self) -> Record | None:
        """The variant with the highest objective."""
        return self.by_id.get(str(self.report.get("best")))

    @property
    def leader(self) -> Record | None:
        """The variant with the best primary score."""
        return self.by_id.get(str(self.report.get("best_scored")))

    @property
    def seeds(self) -> list[Record]:
        """The variants without parents."""
        return [variant for variant in self.variants if not variant.get("parents")]

    @property
    def best_seed(self) -> Record | None:
        """The seed with the best primary score, the first among equals."""
        scored = [(self.primary.cost(score), seed) for seed in self.seeds if (score := self.score(seed)) is not None]
        return min(scored, key=lambda pair: pair[0], default=(0.0, None))[1]

    @property
    def own_seed(self) -> Record | None:
        """The seed that the best variant's line of first parents began with."""
        line = self.lineage
        return self.by_id.get(line[0]["id"]) if line else None

    @property
    def lineage(self) -> list[Record]:
        """The best variant's line of first parents, the seed first."""
        return list(self.report.get("lineage") or [])

    @property
    def control(self) -> Record | None:
        """The seed trained for as many steps as the winner's whole ancestry."""
        return self.report.get("control") or None

    @property
    def failures(self) -> dict[str, int]:
        """Cause -> how many candidates; from the variants if the report does not count them."""
        counted = self.report.get("failures")
        return counted if counted is not None else dict(Counter(v["cause"] for v in self.variants if v.get("cause")))

    @property
    def inherits(self) -> bool:
        """Whether some child started from trained weights."""
        return any((finite(variant.get("inherited")) or 0.0) > 0 for variant in self.variants)

    @property
    def measures(self) -> list[str]:
        """The names of the measures."""
        return list(self.report.get("measures") or [])

    @cached_property
    def centroids(self) -> list[list[float]]:
        """The archive's cells."""
        return list(self.report.get("centroids") or [])

    @cached_property
    def cells(self) -> dict[str, int]:
        """The id of each elite -> its cell."""
        return {id: int(cell) for cell, id in (self.report.get("elites") or {}).items()}


def parents(variant: Record) -> list[str]:
    """The ids of a variant's parents."""
    return list(variant.get("parents") or [])


def generation_of(variant: Record) -> int | None:
    """The generation that a variant's id names."""
    number = str(variant.get("id", "")).partition("/")[0]
    return int(number) if number.isdecimal() else None
