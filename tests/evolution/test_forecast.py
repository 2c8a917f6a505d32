"""What long commands say before and while they run: a dry run, the first line, a line a candidate in a pipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import searches
import torch

from commands import Evo
from evo.compiler.compute import step_flops
from evo.dsl.document import parse
from evo.evolution import forecast


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    """A seed in a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(searches.seed_document(steps=5) + "evolve: {verify: {seeds: 2}}\n")
    return path


def test_a_dry_run_begins_nothing_and_counts(cfg: Path, evo: Evo, tmp_path: Path) -> None:
    """Candidates, trainings of the verdict, FLOPs of all; the time is what its parts add up to; no folder is made."""
    options = ("--generations", 3, "--population", 4, "--workers", 2, "--device", "cpu", "--out", tmp_path / "run")
    found = evo("evolve", cfg, *options, "--dry-run", "--json").json["dry_run"]
    assert (found["candidates"], found["verdict_trainings"], found["workers"]) == (13, 8, 2)
    (seed,) = found["seeds"]
    assert seed["steps"] == 5
    assert seed["flops"] == 5 * step_flops(parse(cfg.read_text()).document)
    assert found["flops"] == pytest.approx(21 * seed["flops"])
    one = seed["setup_s"] + 5 * seed["step_s"] + seed["score_s"]
    assert found["seconds"] == pytest.approx(21 * one / 2)
    assert "13 candidates" in evo("evolve", cfg, *options, "--dry-run").out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_measures_with_one_thread_as_workers_do(cfg: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of a busy machine that wait for each other would be forecast as the search's own time."""
    threads = []
    monkeypatch.setattr(forecast, "make_trainer", _told(threads, forecast.make_trainer))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert evo("evolve", cfg, "--generations", 1, "--workers", 2, "--device", "cpu", "--dry-run").code == 0
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def _told(threads: list[int], make: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which tells how many threads torch uses when it is called."""

    def told(*args: Any, **kwargs: Any) -> Any:
        threads.append(torch.get_num_threads())
        return make(*args, **kwargs)

    return told


@pytest.mark.slow
def test_a_pipe_gets_the_table_and_stderr_the_candidates(cfg: Path, evo: Evo, tmp_path: Path) -> None:
    """The first line says what begins; then a line a candidate with the time left; stdout holds the table alone."""
    options = ("--generations", 1, "--population", 2, "--workers", 0, "--device", "cpu", "--verify", "{seeds: 0}")
    outcome = evo("evolve", cfg, *options, "--repeats", 1, "--out", tmp_path / "run")
    first, *rest = outcome.err.splitlines()
    assert "3 candidates (1 seed and 1 generation of 2) on cpu, in this process; bytes {corpus: " in first
    assert [" left" in line for line in rest if " bits per byte in " in line] == [True, True, False]
    assert outcome.out.splitlines()[0].split()[0] == "generation"
