"""Workers that share a GPU by NVIDIA's MPS, whose server is played by a script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.engines.jobs import Failure, Job, Limits
from evo.engines.mps import CONTROL, PIPES
from evo.engines.pool import PoolEngine, ProcessSpec, begin

SERVER = """#!/bin/sh
if [ "$1" = -d ]; then echo "up $CUDA_MPS_PIPE_DIRECTORY $CUDA_VISIBLE_DEVICES" >> {log}; {then}
else echo "$(cat) $CUDA_MPS_PIPE_DIRECTORY" >> {log}; fi
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a control program on the path that writes down what it was told; `then` is what it does when it starts."""

    def made(then: str) -> Path:
        program, log = tmp_path / "bin" / CONTROL, tmp_path / "log"
        program.parent.mkdir()
        program.write_text(SERVER.format(log=log, then=then))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
        return log

    return made


def job(name: str, payload: object, id: str = "a") -> Job:
    """A job that runs a function of `sample_jobs`."""
    return Job(id, f"sample_jobs:{name}", payload)


def test_workers_meet_at_one_server_that_ends_with_them(server: Callable[[str], Path]) -> None:
    """It sees all GPUs, so that the names of those that workers see are right."""
    log = server("true")
    with PoolEngine(2, preload=(), gpus=("5",), mps=True) as pool:
        jobs = [job("variable", name, name) for name in (PIPES, "CUDA_VISIBLE_DEVICES")]
        told = {outcome.id: outcome.value for outcome in pool.map(jobs)}
        assert log.read_text().split() == ["up", told[PIPES]]
        assert Path(told[PIPES]).is_dir()
        assert told["CUDA_VISIBLE_DEVICES"] == "5"
    assert log.read_text().splitlines()[1] == f"quit {told[PIPES]}"
    assert not Path(told[PIPES]).exists()
    pool.close()


@pytest.mark.parametrize("how", ["break_gpu", "leave_for_a_while"])
def test_a_job_that_lost_its_gpu_has_another_try_without_it(
    tmp_path: Path, server: Callable[[str], Path], how: str
) -> None:
    """Whether its process tells or dies of it, as one does whose context another one broke. The one that repeats it
    alone is at fault, and the workers behind share again."""
    log = server("true")
    jobs = [job(how, (str(tmp_path / f"{times}"), times), str(times)) for times in (1, 9)]
    with PoolEngine(1, preload=(), mps=True) as pool:
        got = {outcome.id: outcome for outcome in pool.map([*jobs, job("variable", PIPES, "after")])}
        shared = got["after"].value
        assert [worker.is_apart for worker in pool.hands] == [False]
    assert (got["1"].value, got["1"].failure) == (2, None)
    assert got["9"].failure is not None
    assert got["9"].failure.cause == "crash"
    assert [len((tmp_path / name).read_text()) for name in ("1", "9")] == [2, 2]
    assert shared == log.read_text().split()[1]


def test_a_server_that_is_missing_or_does_not_start_is_told(
    server: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it said."""
    server("echo no GPU here >&2; exit 1")
    with pytest.raises(DiagnosticError, match="MPS cannot be used: no GPU here"):
        begin(ProcessSpec(mps=True), Limits())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DiagnosticError, match=f"EVO510.*{CONTROL} is not found"):
        begin(ProcessSpec(mps=True), Limits())


def test_the_server_ends_with_a_process_that_is_killed(tmp_path: Path, server: Callable[[str], Path]) -> None:
    """Whoever holds the other end of its shell's standard input is gone then."""
    log = server("true")
    script = tmp_path / "script.py"
    script.write_text("from evo.engines.mps import MPS\nmps = MPS()\nprint('ready', flush=True)\ninput()\n")
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while "quit" not in log.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.gpu
def test_a_kernel_that_faults_costs_its_job_alone_beside_others() -> None:
    """On a real GPU with a real server: those that it broke have their values, by a second try of theirs."""
    jobs = [job("sum_on_gpu", n, str(n)) for n in range(6)]
    jobs[2:2] = [job("fault_on_gpu", None, "bad")]
    try:
        pool = PoolEngine(3, mps=True)
    except DiagnosticError as missing:
        pytest.skip(str(missing))
    with pool:
        got = {outcome.id: outcome for outcome in pool.map(jobs)}
        again = {outcome.id: outcome for outcome in pool.map(jobs)}
    for found in (got, again):
        assert [found[str(n)].value for n in range(6)] == [float(n) for n in range(6)]
        assert isinstance(found["bad"].failure, Failure)
