"""Candidates, trials and terms as rows of the journal, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from evo.evolution.candidate import Candidate
from evo.evolution.fitness import Terms
from evo.evolution.operators.base import WeightSources
from evo.evolution.trial import Evaluation, Start, Trial, WeightsRef
from evo.slime.lives import Lived

Key = tuple[str, int, int]
"""What a trial's rows are found by: candidate, rung and repeat."""

KEPT = 1024
"""How many rows of candidates and starts are remembered as they were read: the present ones are asked for often."""
OBJECTIVE = "objective"


def candidate_texts(candidate: Candidate) -> tuple[str, str, str]:
    """Its operators, parents and origins as JSON."""
    return json.dumps(candidate.operators), json.dumps(candidate.parents), json.dumps(candidate.origins)


@lru_cache(maxsize=KEPT)
def candidate_of(row: tuple[Any, ...]) -> Candidate:
    """The candidate of a row of `candidates`."""
    id, generation, slot, hash, document, patch, operators, parents, origins = row
    made_by, names = tuple(json.loads(operators)), tuple(json.loads(parents))
    return Candidate(id, generation, slot, hash, document, patch, made_by, names, _origins(json.loads(origins)))


def _origins(rows: list[list[Any]]) -> WeightSources:
    return tuple((child, index, source) for child, index, source in rows)


def trial_of(candidate: Candidate, rung: int, steps: int, start: str, rungs: str, done: int, repeat: int) -> Trial:
    """The trial of a row of `trials` beside its candidate."""
    return Trial(candidate, rung, steps, _start(start), tuple(json.loads(rungs)), done, repeat)


def evaluation_of(numbers: Mapping[str, float], cause: str, message: str, result: str, snapshot: bytes) -> Evaluation:
    """The evaluation of a row of `evaluations`, with the numbers that stand under its trial."""
    scores = {name: value for name, value in numbers.items() if not is_objective(name)}
    data = json.loads(result)
    curve = tuple((step, loss) for step, loss in data["curve"])
    lives = tuple(Lived(*row) for row in data.get("lives", ()))
    return Evaluation(cause, message, scores, tuple(data["measures"]), snapshot, curve, lives)


def key_of(ref: WeightsRef) -> Key:
    """What a trial's rows are found by."""
    return ref.candidate, ref.rung, ref.repeat


def start_text(start: Start) -> str:
    """What a trial starts from as JSON."""
    sources = [key_of(source) for source in start.sources]
    data = {"sources": sources, "origins": start.origins, "offset": start.offset, "charge": start.charge}
    return json.dumps(data)


@lru_cache(maxsize=KEPT)
def _start(text: str) -> Start:
    data = json.loads(text)
    sources = tuple(WeightsRef(*source) for source in data["sources"])
    return Start(sources, _origins(data["origins"]), data["offset"], data["charge"])


def score_rows(terms: Terms) -> dict[str, float]:
    """The objective and its terms under the names they have among the scores."""
    parts = {"task": terms.task, "efficiency": terms.efficiency, "gradient": terms.gradient}
    return {OBJECTIVE: terms.objective, **{f"{OBJECTIVE}.{name}": value for name, value in parts.items()}}


def is_objective(name: str) -> bool:
    """Whether a score is the objective or one of its terms."""
    return name.partition(".")[0] == OBJECTIVE
