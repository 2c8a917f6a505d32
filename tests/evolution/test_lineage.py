"""Lineage: weights restored from snapshots along any ancestry are those that were measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import searches
import torch
from parents import document, stage

from evo.archive.snapshot.record import SnapshotError
from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash, to_yaml
from evo.dsl.document import Document, parse
from evo.evolution import lineage as module
from evo.evolution import run
from evo.evolution.ancestry import ancestry
from evo.evolution.candidate import Candidate
from evo.evolution.evaluate import SAMPLE_PARTS, TrialJob, evaluate, pack_weights
from evo.evolution.journal import Journal
from evo.evolution.lineage import Lineage
from evo.evolution.mutate import mutate
from evo.evolution.restored import restored
from evo.evolution.trial import FRESH, Evaluation, Start, Trial, WeightsRef
from evo.tasks.base import open_task
from evo.training.sample import held_out_sample, sample_bits
from evo.training.score import held_out_scores


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def seed() -> Candidate:
    """The first of a line."""
    made = document(stage("body", repeat=2), width=16, train={"steps": 2})
    return Candidate("0000/00", 0, 0, content_hash(made), to_yaml(made))


def child_of(parent: Candidate, *others: Candidate) -> Candidate:
    """A mutated child, a generation later, about as small as its parent: what is restored matters, not how much."""
    generation = parent.generation + 1
    document, stream = parse(parent.document).document, Stream(generation)
    child = mutate(document, stream, mutations=2, accept=lambda child, plan: plan.parameters < 20_000)
    id, parents = f"{generation:04d}/00", (parent.id, *(other.id for other in others))
    return Candidate(id, generation, 0, child.hash, to_yaml(child.document), parents=parents, origins=child.origins)


def trial_of(candidate: Candidate) -> Trial:
    """Its first trial, which inherits what its parents' first trials left."""
    sources = tuple(WeightsRef(parent) for parent in candidate.parents)
    return Trial(candidate, 0, 2, Start(sources, candidate.origins, 2 if sources else 0))


def measured(journal: Journal, trial: Trial) -> Evaluation:
    """The evaluation of a trial, as the search makes it."""
    start = trial.start
    parents = tuple(pack_weights(Lineage(journal).weights(source)) for source in start.sources)
    job = TrialJob(
        trial.candidate.document,
        ".",
        parents=parents,
        origins=start.origins,
        offset=start.offset,
        budget=searches.LITTLE,
    )
    evaluation = evaluate(job)
    assert not evaluation.cause
    return evaluation


def evaluated(journal: Journal, trial: Trial) -> None:
    """Evaluate a trial, and record it with its candidate unless that is known."""
    evaluation = measured(journal, trial)
    if trial.rung == 0:
        journal.add_candidates([trial.candidate])
    journal.add_trials(trial.candidate.generation, [trial])
    journal.add_evaluation(trial.ref, evaluation, 0.0)


def score(made: Document, weights: dict[str, torch.Tensor], tokens: int) -> float:
    """Held-out bits per byte of a model with these weights."""
    model = build(resolve(made.organism), 0, weights=weights)
    task = open_task(made.train.task, Path()).sides()[0]
    return held_out_scores(model, task, made.organism.context, tokens=tokens)["bits_per_byte"]


def judged(made: Document, weights: dict[str, torch.Tensor]) -> float:
    """Held-out bits of a model with these weights on the windows that snapshots are judged by."""
    model, task = build(resolve(made.organism), 0, weights=weights), open_task(made.train.task, Path()).sides()[0]
    tokens, cover = searches.LITTLE.snapshot_tokens, searches.LITTLE.held_out_tokens
    sample = held_out_sample(task, made.organism.context, tokens, cover=cover, parts=SAMPLE_PARTS)
    bits = list(sample_bits(model, sample))
    return sum(bits) / len(bits)


def test_restored_weights_score_what_was_measured(journal: Journal) -> None:
    """Down a line of four and up a rung, weights restored afresh score exactly what their snapshot says."""
    from evo.archive.snapshot.blob import from_bytes

    candidates = [seed()]
    for _ in range(3):
        evaluated(journal, trial_of(candidates[-1]))
        candidates.append(child_of(candidates[-1]))
    evaluated(journal, trial_of(candidates[-1]))
    again = Trial(candidates[-1], 1, 2, Start((WeightsRef(candidates[-1].id),), offset=8))
    evaluated(journal, again)
    for candidate, ref in [*((c, WeightsRef(c.id)) for c in candidates), (candidates[-1], again.ref)]:
        weights = Lineage(journal).weights(ref)
        evaluation = journal.evaluation(ref)
        assert evaluation is not None
        snapshot = from_bytes(evaluation.snapshot)
        made = parse(candidate.document).document
        assert judged(made, weights) == pytest.approx(snapshot.loss_restored, rel=1e-12)
        assert snapshot.increase == evaluation.scores["snapshot_increase"] <= 0.01
        assert score(made, weights, 512) == pytest.approx(evaluation.scores["bits_per_byte"], rel=0.03)


def test_a_long_line_is_restored(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred generations of two parents each are restored one by one: no recursion, nothing twice."""
    found: list[str] = []

    def restore(self: Lineage, trial: Trial, sources: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        found.append(trial.candidate.id)
        assert len(sources) == len(trial.candidate.parents)
        return {"w": torch.zeros(100)}

    monkeypatch.setattr(Lineage, "_restore", restore)
    rows = [seed()]
    for generation in range(1, 500):
        parents = tuple(dict.fromkeys((rows[-1].id, rows[max(0, generation - 3)].id)))
        rows.append(replace(rows[0], id=f"{generation:04d}/00", generation=generation, parents=parents))
    journal.add_candidates(rows)
    for row in rows:
        journal.add_trials(row.generation, [trial_of(row)])
    lineage = Lineage(journal)
    lineage.weights(WeightsRef(rows[-1].id))
    assert found == [row.id for row in rows]
    lineage.weights(WeightsRef(rows[-2].id))
    assert len(found) == len(rows)
    assert len(lineage.line(rows[-1].id)) == len(ancestry(journal, [WeightsRef(rows[-1].id)])) == len(rows)
    assert lineage.steps(WeightsRef(rows[-1].id)) == 2 * len(rows)


def test_memory_is_bounded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept in memory stays within its bytes, the least lately used going first."""
    monkeypatch.setattr(module, "KEPT_BYTES", 1_000)
    monkeypatch.setattr(Lineage, "_restore", lambda self, trial, sources: {"w": torch.zeros(100)})
    candidates = [replace(seed(), id=f"0000/{slot:02d}", slot=slot) for slot in range(6)]
    journal.add_candidates(candidates)
    journal.add_trials(0, map(trial_of, candidates))
    lineage = Lineage(journal)
    for slot in (0, 1, 0, 2):
        lineage.weights(WeightsRef(f"0000/{slot:02d}"))
    assert list(lineage._kept) == [WeightsRef("0000/00"), WeightsRef("0000/02")]


def test_without_inheritance_parents_do_not_matter(journal: Journal) -> None:
    """A trial that starts afresh is restored without its parents' snapshots, and only its steps count."""
    parent, lineage = seed(), Lineage(journal)
    journal.add_candidates([parent])
    child = child_of(parent)
    evaluated(journal, Trial(child, 0, 2, FRESH))
    assert score(parse(child.document).document, lineage.weights(WeightsRef(child.id)), 512) > 0
    assert lineage.steps(WeightsRef(child.id)) == 2


def test_what_cannot_be_restored(journal: Journal) -> None:
    """A trial that is unknown, failed, or whose sources have other weights than it inherited is an error."""
    parent, lineage = seed(), Lineage(journal)
    evaluated(journal, trial_of(parent))
    child = child_of(parent)
    with pytest.raises(KeyError):
        lineage.weights(WeightsRef("0007/00"))
    with pytest.raises(KeyError):
        lineage.latest(child.id)
    journal.add_candidates([child])
    journal.add_trials(1, [Trial(child, 0, 2, FRESH)])
    journal.add_evaluation(WeightsRef(child.id), measured(journal, trial_of(child)), 0.0)
    with pytest.raises(SnapshotError, match="another base"):
        lineage.weights(WeightsRef(child.id))
    failed = replace(child, id="0001/01", slot=1)
    journal.add_candidates([failed])
    journal.add_trials(1, [trial_of(failed)])
    journal.add_evaluation(WeightsRef(failed.id), Evaluation("diverged", "x"), 0.0)
    with pytest.raises(KeyError):
        lineage.weights(WeightsRef(failed.id))


def test_a_variant_becomes_a_checkpoint(tmp_path: Path) -> None:
    """`restored` writes a variant's weights for `evo generate`, with the score they have; unknown ones are EVO602."""
    from evo.training.checkpoint import load_checkpoint

    run.start(tmp_path / "run", searches.settings(generations=1, population=1), searches.Quiet())
    found = restored(tmp_path / "run", "0001/00", tmp_path / "c.safetensors")
    saved = load_checkpoint(tmp_path / "c.safetensors")
    assert found.score == score(saved.document, saved.weights, searches.LITTLE.held_out_tokens)
    assert found.to_data()["bits_per_byte"] == found.score
    with pytest.raises(DiagnosticError, match=r"EVO602 .* has no variant '0009/00'"):
        restored(tmp_path / "run", "0009/00", tmp_path / "d.safetensors")
