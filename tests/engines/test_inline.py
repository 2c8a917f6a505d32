"""The engine in the search's own process: what it cannot survive is said once, and of no job that it did not run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from evo.engines.inline import InlineEngine
from evo.engines.jobs import Job


def test_nothing_runs_without_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job whose kernel faults has failed; those behind it are not to blame, and are left to a process that can."""
    monkeypatch.setitem(sys.modules, "torch", importlib.import_module("torch"))
    jobs = [
        Job("before", "sample_jobs:double", 2),
        Job("bad", "sample_jobs:break_gpu", (str(tmp_path / "count"), 1)),
        Job("behind", "sample_jobs:double", 3),
    ]
    before, bad, behind = InlineEngine().map(jobs)
    assert before.value == 4
    assert (bad.value, bad.failure and bad.failure.cause) == (None, "crash")
    assert behind.failure is not None
    assert behind.failure.cause == "outside"
    assert [diagnostic.code for diagnostic in behind.failure.diagnostics] == ["EVO606"]
