"""The gate before every timing, and what is timed behind it."""

import math
import multiprocessing
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import replace
from itertools import islice

import pytest
from small_cases import case, compiled, pairs, raising, with_gradients

from evo.bench import kernels_compile, kernels_timing
from evo.bench.kernels import ERROR_BOUND, measure
from evo.bench.kernels_cases import cases
from evo.bench.kernels_check import largest_error
from evo.bench.kernels_compile import run_jobs
from evo.bench.kernels_notes import spread
from evo.bench.kernels_timing import Timing

same = lambda gradient: gradient  # noqa: E731
WRONG = {
    "value": lambda x, y: 1.1 * x * y,
    "first gradient": with_gradients(lambda g: 1.1 * g, same),
    "last gradient": with_gradients(same, lambda g: 1.1 * g),
    "value, not a number": lambda x, y: math.nan * x * y,
    "first gradient, not a number": with_gradients(lambda g: math.nan * g, same),
    "last gradient, not a number": with_gradients(same, lambda g: math.nan * g),
}
NONE = (None, None)
ONE = Timing(1.0, 0.5, 1.5)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What was timed: a step runs once, and is said to take a millisecond."""
    found: list[Callable[[], object]] = []

    def once(step: Callable[[], object]) -> Timing:
        step()
        found.append(step)
        return ONE

    monkeypatch.setattr(kernels_timing, "timing", once)
    return found


def test_the_check_of_a_right_kernel_is_what_float32_rounds():
    """Values and gradients are compared in float64."""
    assert 0 < largest_error(case()) < 1e-6


def test_the_check_tells_how_wrong_a_kernel_is():
    """The worst relative error of value and gradients."""
    assert largest_error(case(WRONG["last gradient"])) == pytest.approx(0.1, rel=1e-4)


def test_the_check_keeps_batch_and_heads_and_shortens_time():
    """Tiles are chosen by batch and heads, so they stay; the length is at most 499."""
    asked: list[tuple[int, ...]] = []

    def make(*shape: int):
        asked.append(shape)
        return pairs(*shape)

    largest_error(replace(case(), make=make))
    largest_error(replace(case(), make=make, shape=(1, 8192, 2)))
    assert asked == [(2, 7, 3), (1, 499, 2)]


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_kernel_is_not_timed(timed, what: str):
    """Wrong in value, or in one gradient alone, or not a number anywhere: the row says so and has no times."""
    row = measure(case(WRONG[what]))
    assert not row.error < ERROR_BOUND
    assert (row.ours, row.theirs, row.note) == (NONE, NONE, "wrong: not timed")
    assert timed == []


def test_a_kernel_that_fails_its_check_is_not_timed(timed):
    """What it raised is in its row, and the rows after it are measured."""
    row = measure(case(raising(RuntimeError("out of shared memory\nand how much"))))
    assert math.isnan(row.error)
    assert (row.ours, row.theirs) == (NONE, NONE)
    assert row.note == "check: RuntimeError: out of shared memory: not timed"
    assert timed == []


def test_a_right_kernel_is_timed_beside_its_peer(timed):
    """Forward, and forward and backward, of both."""
    row = measure(case())
    assert row.error < ERROR_BOUND
    assert (row.ours, row.theirs, row.note) == ((ONE, ONE), (ONE, ONE), "")
    assert len(timed) == 4


PEERS = {
    "peer not installed (fla)": (raising(ImportError("No module named 'fla'", name="fla")), NONE),
    "peer: RuntimeError: no such mask": (raising(RuntimeError("no such mask")), NONE),
    "forward: RuntimeError: no such tile": (lambda: raising(RuntimeError("no such tile\nbut others")), NONE),
    "forward: NotImplementedError": (lambda: raising(NotImplementedError()), NONE),
    "f+b: ValueError: no backward": (
        lambda: with_gradients(raising(ValueError("no backward")), raising(ValueError("nor this"))),
        (ONE, None),
    ),
}


@pytest.mark.parametrize("note", PEERS)
def test_a_peer_that_is_missing_or_refuses_is_a_note(timed, note: str):
    """Ours is timed all the same, and so is what the peer does take."""
    peer, theirs = PEERS[note]
    row = measure(case(peer=peer))
    assert (row.ours, row.theirs, row.note) == ((ONE, ONE), theirs, note)


def test_what_compiles_slowly_holds_nothing_up(monkeypatch, capfd):
    """Its name is told when patience is over, and nothing goes on behind that; who failed was done, too."""
    jobs = [(name, who) for who in ("peer", "ours") for name in ("quick", "slow", "bad")]

    def until_one_is_left(futures, timeout):
        yield from islice(as_completed(futures), len(jobs) - 1)
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(kernels_compile, "as_completed", until_one_is_left)
        assert run_jobs(compiled, jobs, 2, 1.0) == ["slow"]
    assert multiprocessing.active_children() == []
    assert "bad, peer: ValueError('no such tile')" in capfd.readouterr().err
    assert run_jobs(compiled, [("quick", "ours")], 1, None) == []


def test_every_case_is_found_by_its_name():
    """The processes that compile are told nothing else."""
    names = [case.name for case in cases()]
    assert len(names) == len(set(names)) > 20


def test_the_spread_is_the_middle_of_the_times():
    """Median, 20th and 80th percentile."""
    assert spread([9.0, 1, 2, 8, 3, 7, 4, 6, 5]) == Timing(5, 2, 8)
