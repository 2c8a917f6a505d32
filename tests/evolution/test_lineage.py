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
from evo.evolution.evaluate import Evaluation, Task, pack_weights
from evo.evolution.journal import Candidate, Journal
from evo.evolution.lineage import Lineage
from evo.evolution.mutate import mutate
from evo.tasks.base import open_task
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
    """A mutated child, a generation later."""
    generation = parent.generation + 1
    child = mutate(parse(parent.document).document, Stream(generation), mutations=2)
    id, parents = f"{generation:04d}/00", (parent.id, *(other.id for other in others))
    return Candidate(
        id, generation, 0, child.hash, to_yaml(child.document), parents=parents, origins=child.origins, steps_before=2
    )


def evaluated(journal: Journal, candidate: Candidate, lineage: Lineage) -> Evaluation:
    """Evaluate a candidate as the search does, and record it."""
    parents = tuple(pack_weights(lineage.weights(parent)) for parent in candidate.parents)
    task = Task(candidate.document, ".", parents=parents, origins=candidate.origins, offset=candidate.steps_before)
    evaluation = searches.quick_evaluate(task)
    assert not evaluation.cause
    journal.add_candidates([candidate])
    journal.add_evaluation(candidate.id, evaluation, 0.0)
    return evaluation


def score(made: Document, weights: dict[str, torch.Tensor], tokens: int) -> float:
    """Held-out bits per byte of a model with these weights."""
    model = build(resolve(made.organism), 0, weights=weights)
    task = open_task(made.train.task, Path())
    return held_out_scores(model, task, made.organism.context, tokens=tokens)["bits_per_byte"]


def test_restored_weights_score_what_was_measured(journal: Journal) -> None:
    """Down a line of four, the weights restored by a fresh lineage score what the snapshot says of them, exactly."""
    from evo.archive.snapshot.blob import from_bytes

    candidates = [seed()]
    for _ in range(3):
        evaluated(journal, candidates[-1], Lineage(journal, inherit=True))
        candidates.append(child_of(candidates[-1]))
    evaluated(journal, candidates[-1], Lineage(journal, inherit=True))
    for candidate in candidates:
        weights = Lineage(journal, inherit=True).weights(candidate.id)
        evaluation = journal.evaluation(candidate.id)
        assert evaluation is not None
        snapshot = from_bytes(evaluation.snapshot)
        made = parse(candidate.document).document
        assert score(made, weights, searches.LITTLE["SNAPSHOT_TOKENS"]) == snapshot.loss_restored
        assert snapshot.increase == evaluation.snapshot_increase <= 0.01
        assert score(made, weights, 512) == pytest.approx(evaluation.bits_per_byte, rel=0.03)


def test_a_long_line_is_restored(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred generations of two parents each are restored one by one: no recursion, nothing twice."""
    restored: list[str] = []

    def restore(self: Lineage, candidate: Candidate, parents: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        restored.append(candidate.id)
        assert len(parents) == len(candidate.parents)
        return {"w": torch.zeros(100)}

    monkeypatch.setattr(Lineage, "_restore", restore)
    rows = [seed()]
    for generation in range(1, 500):
        parents = tuple(dict.fromkeys((rows[-1].id, rows[max(0, generation - 3)].id)))
        rows.append(replace(rows[0], id=f"{generation:04d}/00", generation=generation, parents=parents))
    journal.add_candidates(rows)
    lineage = Lineage(journal, inherit=True)
    lineage.weights(rows[-1].id)
    assert restored == [row.id for row in rows]
    lineage.weights(rows[-2].id)
    assert len(restored) == len(rows)
    assert len(lineage.line(rows[-1].id)) == len(lineage.ancestry(rows[-1].id)) == len(rows)
    assert lineage.steps(rows[-1].id) == 2 * len(rows)


def test_memory_is_bounded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept in memory stays within its bytes, the least lately used going first."""
    monkeypatch.setattr(module, "KEPT_BYTES", 1_000)
    monkeypatch.setattr(Lineage, "_restore", lambda self, candidate, parents: {"w": torch.zeros(100)})
    journal.add_candidates([replace(seed(), id=f"0000/{slot:02d}", slot=slot) for slot in range(6)])
    lineage = Lineage(journal, inherit=False)
    for slot in (0, 1, 0, 2):
        lineage.weights(f"0000/{slot:02d}")
    assert list(lineage._kept) == ["0000/00", "0000/02"]


def test_without_inheritance_parents_do_not_matter(journal: Journal) -> None:
    """Where children start afresh, a child is restored without its parents' snapshots, and only its steps count."""
    parent, lineage = seed(), Lineage(journal, inherit=False)
    journal.add_candidates([parent])
    child = child_of(parent)
    evaluation = searches.quick_evaluate(Task(child.document, "."))
    journal.add_candidates([child])
    journal.add_evaluation(child.id, evaluation, 0.0)
    assert score(parse(child.document).document, lineage.weights(child.id), 512) > 0
    assert lineage.steps(child.id) == 2


def test_what_cannot_be_restored(journal: Journal) -> None:
    """A candidate that is unknown, failed, or whose parents have other weights than it inherited is an error."""
    parent = seed()
    evaluated(journal, parent, Lineage(journal, inherit=True))
    child = child_of(parent)
    evaluated(journal, child, Lineage(journal, inherit=True))
    with pytest.raises(KeyError):
        Lineage(journal, inherit=True).weights("0007/00")
    with pytest.raises(SnapshotError, match="another base"):
        Lineage(journal, inherit=False).weights(child.id)
    failed = replace(child, id="0001/01", slot=1)
    journal.add_candidates([failed])
    journal.add_evaluation(failed.id, Evaluation("diverged", "x"), 0.0)
    with pytest.raises(KeyError):
        Lineage(journal, inherit=True).weights(failed.id)


def test_a_variant_becomes_a_checkpoint(tmp_path: Path) -> None:
    """`restored` writes a variant's weights for `evo generate`, with the score they have; unknown ones are EVO602."""
    from evo.training.checkpoint import load_checkpoint

    searches.use()
    run.start(tmp_path / "run", searches.settings(generations=1, population=1), searches.Quiet())
    found = run.restored(tmp_path / "run", "0001/00", tmp_path / "c.safetensors")
    saved = load_checkpoint(tmp_path / "c.safetensors")
    assert found["bits_per_byte"] == score(saved.document, saved.weights, 32_768)
    with pytest.raises(DiagnosticError, match=r"EVO602 .* has no variant '0009/00'"):
        run.restored(tmp_path / "run", "0009/00", tmp_path / "d.safetensors")
