"""What every engine promises: one outcome a job, failures as values, numbers that do not depend on where a job ran."""

from collections.abc import Iterator

import pytest

from evo.dsl import index
from evo.dsl.engine import EngineSpec
from evo.engines.inline import InlineEngine
from evo.engines.jobs import Engine, Job, Limits, Outcome, make_engine

MARKS = {"ray": [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]}
"""By kind: what a machine needs for it; Ray's own warnings are not ours."""
ENGINES = {f"{kind}, {workers}": (kind, workers) for kind in index.KINDS["engine"] for workers in (1, 2)}


@pytest.fixture(
    params=[pytest.param(name, marks=MARKS.get(kind, [])) for name, (kind, _) in ENGINES.items()], scope="module"
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """One engine of each kind, shared by the tests of this file: what a job does must not outlive its outcome."""
    kind, workers = ENGINES[request.param]
    if kind in MARKS:
        pytest.importorskip(kind)
    spec = index.kind_class("engine", kind)()
    assert isinstance(spec, EngineSpec)
    with make_engine(spec, Limits(workers)) as engine:
        yield engine


def outcomes(engine: Engine, *jobs: Job) -> dict[str, Outcome]:
    """The outcomes by id."""
    return {outcome.id: outcome for outcome in engine.map(jobs)}


def job(name: str, payload: object = None, id: str = "a") -> Job:
    """A job that runs a function of `sample_jobs`."""
    return Job(id, f"sample_jobs:{name}", payload)


def test_every_job_has_one_outcome(engine: Engine) -> None:
    """Ten jobs give ten outcomes with their values, more than there are workers."""
    got = outcomes(engine, *(job("double", n, str(n)) for n in range(10)))
    assert {id: outcome.value for id, outcome in got.items()} == {str(n): 2 * n for n in range(10)}
    assert all(outcome.failure is None and outcome.seconds >= 0 for outcome in got.values())


def test_no_jobs_no_outcomes(engine: Engine) -> None:
    """Mapping nothing yields nothing."""
    assert outcomes(engine) == {}


@pytest.mark.parametrize(
    ("name", "payload", "cause", "message"),
    [
        ("raise_error", "two\nlines", "error", "ValueError: two lines (sample_jobs.py:"),
        ("run_out", None, "memory", "MemoryError (sample_jobs.py:"),
        ("leave_politely", 4, "error", "SystemExit: 4"),
        ("nothing_of_that_name", None, "error", "AttributeError"),
    ],
)
def test_failures_are_values(engine: Engine, name: str, payload: object, cause: str, message: str) -> None:
    """A job that raises, runs out of memory, exits or does not exist gives its cause, and the next job runs."""
    got = outcomes(engine, job(name, payload, "bad"), job("double", 4, "good"))
    failure = got["bad"].failure
    assert failure is not None
    assert failure.cause == cause
    assert failure.message.startswith(message)
    assert "\n" not in failure.message
    assert got["bad"].value is None
    assert got["good"].value == 8


def test_bad_function_names_are_explained(engine: Engine) -> None:
    """A function that is not 'module:name', or whose module is missing, is a failure like any other."""
    got = outcomes(engine, Job("a", "nocolon"), Job("b", "no_such_module_xyz:f"))
    assert "package.module:name" in str(got["a"].failure)
    assert "ModuleNotFoundError" in str(got["b"].failure)


def test_numbers_do_not_depend_on_the_engine(engine: Engine) -> None:
    """A small training gives bit for bit what it gives in this process on one thread, on any number of workers."""
    expected = {outcome.id: outcome.value for outcome in InlineEngine().map(job("train", n, str(n)) for n in range(3))}
    got = outcomes(engine, *(job("train", n, str(n)) for n in range(3)))
    assert {id: outcome.value for id, outcome in got.items()} == expected


def test_torch_uses_one_thread(engine: Engine) -> None:
    """A job sees one torch thread; afterwards this process has as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert outcomes(engine, job("threads"))["a"].value == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_tensors_come_back_whole(engine: Engine) -> None:
    """A tensor larger than a pipe's buffer arrives, and stays valid when its worker is gone."""
    value = outcomes(engine, job("give_tensor", 100_000))["a"].value
    assert int(value.sum()) == 100_000 * 99_999 // 2


def test_jobs_are_taken_lazily(engine: Engine) -> None:
    """An engine takes jobs as it has room for them, so that a caller may decide late what comes next."""
    taken = []

    def jobs() -> Iterator[Job]:
        for n in range(8):
            taken.append(n)
            yield job("double", n, str(n))

    running = engine.map(jobs())
    next(running)
    assert len(taken) <= 4
    assert len(list(running)) == 7
