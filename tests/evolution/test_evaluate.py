"""The evaluation of one candidate: a pure function of its job, with a cause for everything that goes wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import searches
import torch
from parents import ATTENTION, document, stage

from evo.base.diagnostics import DiagnosticError
from evo.compiler.build import initial_weights
from evo.compiler.resolve import resolve
from evo.data.corpus import split_corpus
from evo.dsl import index
from evo.dsl.canonical import to_yaml
from evo.dsl.document import parse
from evo.evolution.evaluate import TrialJob, evaluate, input_moments, pack_weights
from evo.evolution.trial import Evaluation
from evo.tasks.bytes.task import BytesTask


def job(mix: Any = None, **train: Any) -> TrialJob:
    """A tiny candidate without parents."""
    made = document(stage("body", mix, repeat=2), width=16, train={"steps": 2, **train})
    return TrialJob(to_yaml(made), ".", budget=searches.LITTLE)


def test_equal_jobs_have_equal_evaluations() -> None:
    """Evaluating twice gives the same record, snapshot bytes included; measures are five numbers in [0, 1]."""
    one, two = (evaluate(job()) for _ in range(2))
    assert one == two
    assert one.cause == ""
    assert 0 < one.scores["bits_per_byte"] < 10
    assert len(one.measures) == 5
    assert all(0 <= value <= 1 for value in one.measures)
    assert [step for step, _ in one.curve] == [1, 2]
    assert one.curve[-1][1] == pytest.approx(one.scores["train_loss"], abs=1e-4)
    assert one.snapshot
    assert one.scores["snapshot_increase"] <= 0.01
    assert one.scores["fp32_bytes"] == 4 * resolve(parse(job().document).document.organism).parameters


def test_a_leaking_candidate_has_no_score() -> None:
    """A document past the checks whose attention sees the future is stopped before training, with cause leak."""
    leaky = job().document.replace("heads: 2", "heads: 2, causal: false")
    assert parse(leaky).document
    evaluation = evaluate(TrialJob(leaky, "."))
    assert evaluation.cause == "leak"
    assert "depend on later inputs" in evaluation.message
    assert evaluation.scores == {"inherited": 0.0}
    assert evaluation.measures == ()
    assert evaluation.snapshot == b""


def test_divergence_has_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that overflow, and a score that is no number, are cause diverged."""
    monkeypatch.setattr("evo.dsl.schedules.WsdSchedule.rate", lambda *args: 1e30)
    overflowing = evaluate(job())
    assert overflowing.cause == "diverged"
    assert overflowing.curve, "how it went is kept"
    monkeypatch.undo()
    plain, odd = BytesTask.score, {"bits_per_byte": math.inf}
    monkeypatch.setattr(BytesTask, "score", lambda self, *args: {**plain(self, *args), **odd})
    assert evaluate(job()).cause == "diverged"


def test_time_has_a_cause_that_repeats() -> None:
    """A candidate over its seconds is cause timeout, in words that do not tell how far it came."""
    evaluation = evaluate(replace(job(), max_seconds=0.0))
    assert (evaluation.cause, evaluation.message) == ("timeout", "training took more than 0 s")
    assert evaluation.curve == ()


def test_parents_weights_are_the_start() -> None:
    """A child of the same shape inherits everything and goes on from there; without parents it starts from its seed."""
    plan = resolve(parse(job().document).document.organism)
    generator = torch.Generator().manual_seed(0)
    weights = {k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in initial_weights(plan, 0).items()}
    fresh, heir = (evaluate(j) for j in (job(), replace(job(), parents=(pack_weights(weights),))))
    assert (fresh.scores["inherited"], heir.scores["inherited"]) == (0.0, 1.0)
    assert fresh.scores["bits_per_byte"] != heir.scores["bits_per_byte"]


def test_snapshots_are_not_shaped_by_held_out_text() -> None:
    """What a snapshot keeps is chosen by training text: changing the held-out half moves no moment."""
    from evo.compiler.build import build

    made = parse(job().document).document
    model = build(resolve(made.organism), 0)
    text = np.random.Generator(np.random.Philox(0)).integers(0, 256, 8_000, dtype=np.uint8)
    one = split_corpus("one", text.tobytes())
    two = replace(one, held_out=one.held_out[::-1])
    tasks = BytesTask(lambda: one), BytesTask(lambda: two)
    first, second = (input_moments(model, task, made.organism.context, 256) for task in tasks)
    assert first.keys() == second.keys()
    assert first
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_own_texts_are_found(tmp_path: Path) -> None:
    """A corpus path is taken from the job's root; a missing one is an error that engines report."""
    (tmp_path / "own.txt").write_bytes(b"some words to learn. " * 600)
    made = job(task={"kind": "bytes", "corpus": "own.txt"})
    assert evaluate(replace(made, root=str(tmp_path))).cause == ""
    with pytest.raises(DiagnosticError, match=r"EVO500 no corpus 'own\.txt'"):
        evaluate(replace(made, root=str(tmp_path / "elsewhere")))


def test_no_tolerance_no_snapshot() -> None:
    """The control takes none."""
    evaluation: Evaluation = evaluate(replace(job(ATTENTION), tolerance=None))
    assert evaluation.snapshot == b""
    assert evaluation.cause == ""


def test_auxiliary_losses_are_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a block adds to the loss is recorded under `loss.NAME`, apart from the task's."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "training"))
    monkeypatch.setitem(index.KINDS, "ffn", {**index.KINDS["ffn"], "loaded": "loaded:LoadedSpec"})
    made = document(stage("body", ffn={"kind": "loaded", "ratio": 1.0}), width=16, train={"steps": 2})
    evaluation = evaluate(TrialJob(to_yaml(made), ".", tolerance=None, budget=searches.LITTLE))
    assert evaluation.cause == ""
    assert next(iter(evaluation.scores)) == "bits_per_byte"
    assert evaluation.scores["loss.size"] > 0
