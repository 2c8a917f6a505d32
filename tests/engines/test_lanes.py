"""The engine of threads: what is side by side in one process gives what it gives alone."""

from __future__ import annotations

import threading
from collections.abc import Generator

import torch

from evo.engines.inline import InlineEngine
from evo.engines.jobs import Job, Limits
from evo.engines.lanes import LanesEngine, LanesSpec, begin
from evo.evolution.evaluate import EVALUATE, TrialJob
from evo.evolution.trial import Budget

TEXT = """
evo: 1
organism: {{width: 16, context: 24, stages: [{{name: body, repeat: 2, mix: {{kind: {mixer}, heads: 2}}}}]}}
train: {{steps: 6, batch: 2, seed: {seed}}}
"""


def test_trials_side_by_side_are_trials_alone(tmp_path) -> None:
    """Two threads: weights, scores and snapshots are those of one job after another, to the byte."""
    jobs = [
        Job(
            f"{mixer}{seed}",
            EVALUATE,
            TrialJob(TEXT.format(mixer=mixer, seed=seed), str(tmp_path), budget=Budget(1_000)),
        )
        for mixer in ("attention", "recurrence")
        for seed in (1, 2)
    ]
    with InlineEngine() as inline, begin(LanesSpec(), Limits(2)) as lanes:
        alone = {outcome.id: outcome.value for outcome in inline.map(jobs)}
        beside = {outcome.id: outcome.value for outcome in lanes.map(jobs)}
    assert [value.cause for value in alone.values()] == [""] * 4
    assert beside == alone


def test_jobs_run_at_once_and_those_left_are_not_waited_for() -> None:
    """Two jobs that wait for each other end; an early end of `map` leaves the engine usable, without old outcomes."""
    with LanesEngine(2) as engine:
        meeting = threading.Barrier(2)
        met = [outcome.failure for outcome in engine.map(Job(str(n), "sample_jobs:meet", meeting) for n in range(2))]
        assert met == [None, None]
        left = threading.Event()
        outcomes = engine.map(
            iter([Job("quick", "sample_jobs:double", 1), Job("slow", "sample_jobs:await_event", left)])
        )
        assert next(outcomes).id == "quick"
        assert isinstance(outcomes, Generator)
        outcomes.close()
        left.set()
        assert [outcome.id for outcome in engine.map([Job("next", "sample_jobs:double", 2)])] == ["next"]


def test_threads_of_torch_are_given_back() -> None:
    """One inside, as in workers; what there was before afterwards."""
    before = torch.get_num_threads()
    with LanesEngine(2) as engine:
        (outcome,) = engine.map([Job("n", "sample_jobs:threads")])
        assert outcome.value == 1
    assert torch.get_num_threads() == before
