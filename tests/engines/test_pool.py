"""The pool: whatever a job does to its worker, the run goes on and no process is left behind."""

import errno
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evo.engines.jobs import Failure, Job, Outcome, explain
from evo.engines.memory import resident_bytes
from evo.engines.pool import PoolEngine

MEBIBYTE = 2**20
BARE: tuple[str, ...] = ()  # these tests need no torch in the workers


def job(name: str, payload: object = None, id: str = "a") -> Job:
    """A job that runs a function of `sample_jobs`."""
    return Job(id, f"sample_jobs:{name}", payload)


def by_id(outcomes: list[Outcome]) -> dict[str, Outcome]:
    """The outcomes by id."""
    return {outcome.id: outcome for outcome in outcomes}


def is_alive(pid: int) -> bool:
    """Whether a process runs: gone and zombie both count as not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 20) -> None:
    """Fail unless all these processes end in time."""
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"still running: {[pid for pid in pids if is_alive(pid)]}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "payload", "failure"),
    [
        ("leave", 7, Failure("crash", "the worker exited with status 7")),
        ("leave", 0, Failure("crash", "the worker exited with status 0")),
        ("read_nowhere", None, Failure("crash", "the worker was killed by SIGSEGV")),
        (
            "kill_itself",
            None,
            Failure("crash", "the worker was killed by SIGKILL; the system may have run out of memory"),
        ),
        ("sleep", 60, Failure("timeout", "ran longer than 1.5 s")),
    ],
)
def test_a_lost_worker_is_replaced(
    monkeypatch: pytest.MonkeyPatch, name: str, payload: object, failure: Failure
) -> None:
    """A job that ends or hangs its worker carries the cause; the jobs beside and behind it have their values."""
    monkeypatch.setattr("evo.engines.process.times_out_of_memory", lambda: None)
    jobs = [job("double", 1, "before"), job(name, payload, "bad"), *(job("double", n, f"after {n}") for n in range(4))]
    with PoolEngine(2, max_seconds=1.5, preload=BARE) as pool:
        got = by_id(list(pool.map(jobs)))
    assert got["bad"].failure == failure
    assert got["bad"].value is None
    assert [outcome.value for id, outcome in sorted(got.items()) if id != "bad"] == [0, 2, 4, 6, 2]


@pytest.mark.parametrize(("times", "value"), [(1, 2), (2, None)])
def test_a_worker_that_lost_its_gpu_is_replaced(tmp_path: Path, times: int, value: int | None) -> None:
    """A kernel that faults ends the use of the GPU for its process: the job has a second one, those behind it have a
    sound one."""
    jobs = [
        job("break_gpu", (str(tmp_path / "count"), times), "bad"),
        *(job("double", n, f"after {n}") for n in range(3)),
    ]
    with PoolEngine(1, preload=BARE) as pool:
        got = by_id(list(pool.map(jobs)))
        assert len(pool.hands) == 1
    assert got["bad"].value == value
    assert got["bad"].failure == (None if value else Failure("crash", "the GPU was lost: a kernel faulted"))
    assert [got[f"after {n}"].value for n in range(3)] == [0, 2, 4]


@pytest.mark.gpu
def test_a_kernel_that_faults_costs_its_job_alone() -> None:
    """On a real GPU, too."""
    jobs = [job("sum_on_gpu", 3, "before"), job("fault_on_gpu", None, "bad"), job("sum_on_gpu", 5, "after")]
    with PoolEngine(1) as pool:
        got = by_id(list(pool.map(jobs)))
    assert [got[id].value for id in ("before", "bad", "after")] == [3.0, None, 5.0]
    assert "CUDA error" in str(got["bad"].failure)


def test_a_growing_job_is_killed() -> None:
    """A job that outgrows `max_memory_bytes` is ended with the cause memory, long before it would have finished."""
    limit = 300 * MEBIBYTE
    started = time.monotonic()
    with PoolEngine(1, max_memory_bytes=limit, preload=BARE) as pool:
        got = by_id(list(pool.map([job("allocate", 500 * MEBIBYTE, "big"), job("double", 3, "small")])))
    assert got["big"].failure == Failure("memory", f"used more than {limit:,} bytes")
    assert got["small"].value == 6
    assert time.monotonic() - started < 28


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_what_a_job_frees_it_gets_again() -> None:
    """Within a job the system clears pages once, not at every allocation; between jobs they are given back."""
    size = 40 * MEBIBYTE
    with PoolEngine(1, preload=BARE) as pool:
        outcomes = list(pool.map([job("allocate_often", size, id) for id in "ab"]))
    for outcome in outcomes:
        assert outcome.value[0] < 2 * size / os.sysconf("SC_PAGE_SIZE")
    assert outcomes[1].value[1] - outcomes[0].value[1] < size / 4


def test_start_up_does_not_count() -> None:
    """A limit far below what a worker takes to start is not exceeded by a job that does nothing."""
    with PoolEngine(1, max_seconds=0.1, preload=("asyncio", "unittest.mock")) as pool:
        assert next(pool.map([job("double", 2)])).value == 4


def test_outcomes_come_as_jobs_end() -> None:
    """A short job started second is reported before the long one started first."""
    with PoolEngine(2, preload=BARE) as pool:
        list(pool.map([job("double", n, str(n)) for n in range(2)]))
        got = [outcome.id for outcome in pool.map([job("sleep", 1.0, "long"), job("sleep", 0.0, "short")])]
    assert got == ["short", "long"]


def test_workers_persist_and_close() -> None:
    """Workers serve many maps, their number is the one asked for, and closing leaves none of them."""
    with PoolEngine(2, preload=BARE) as pool:
        first = {outcome.value for outcome in pool.map([job("process_id", id=str(n)) for n in range(6)])}
        second = {outcome.value for outcome in pool.map([job("process_id", id=str(n)) for n in range(6)])}
        assert len(first | second) <= 2
        assert os.getpid() not in first
    wait_until_gone(list(first | second), seconds=1)
    pool.close()


def test_workers_are_dealt_out_among_gpus() -> None:
    """Each sees one of those named; in the place of a lost worker comes one that sees the same."""
    seen = [job("variable", "CUDA_VISIBLE_DEVICES", str(n)) for n in range(3)]
    with PoolEngine(3, preload=BARE, gpus=("4", "6")) as pool:
        assert {outcome.value for outcome in pool.map(seen)} == {"4", "6"}
        assert sorted(str(worker.gpu) for worker in pool.hands) == ["4", "4", "6"]
        list(pool.map([job("leave", 7), *seen]))
        assert sorted(str(worker.gpu) for worker in pool.hands) == ["4", "4", "6"]


def test_leaving_early_stops_the_rest() -> None:
    """A caller that stops listening kills what still runs, and may map again."""
    with PoolEngine(2, preload=BARE) as pool:
        running = pool.map([job("process_id", id="quick"), job("sleep", 60, "slow")])
        assert next(running).id == "quick"
        started = time.monotonic()
        running.close()
        assert time.monotonic() - started < 5
        assert next(pool.map([job("double", 5)])).value == 10


def test_what_cannot_be_pickled_is_reported() -> None:
    """A payload or a value that cannot cross the pipe is an error of that job alone."""
    jobs = [job("double", lambda: 0, "payload"), job("unpicklable", 1, "value"), job("double", 1, "good")]
    with PoolEngine(1, preload=BARE) as pool:
        got = by_id(list(pool.map(jobs)))
    assert "the job cannot be pickled" in str(got["payload"].failure)
    assert "the job's value cannot be pickled" in str(got["value"].failure)
    assert got["good"].value == 2


def test_what_cannot_be_read_back_is_reported() -> None:
    """A payload or a value that fails to unpickle is an error of that job alone."""
    from sample_jobs import Unreadable  # on the path while a test runs

    jobs = [job("double", Unreadable(), "payload"), job("give_unreadable", 1, "value"), job("double", 1, "good")]
    with PoolEngine(1, preload=BARE) as pool:
        got = by_id(list(pool.map(jobs)))
    assert "ValueError: unreadable" in str(got["payload"].failure)
    assert "the job's value cannot be read: ValueError: unreadable" in str(got["value"].failure)
    assert got["good"].value == 2


def test_a_worker_lost_between_jobs_costs_nothing() -> None:
    """If an idle worker is killed from outside, the next job runs on a fresh one."""
    with PoolEngine(1, preload=BARE) as pool:
        pid = next(pool.map([job("process_id")])).value
        os.kill(pid, signal.SIGKILL)
        wait_until_gone([pid])
        assert next(pool.map([job("double", 2)])).value == 4


def test_no_workers_is_refused() -> None:
    """A pool of none is a mistake, said at once."""
    with pytest.raises(ValueError, match="at least one worker"):
        PoolEngine(0)


def test_own_memory_is_known() -> None:
    """The resident size of a living process is plausible, that of a missing one is None."""
    assert MEBIBYTE < (resident_bytes(os.getpid()) or 0) < 100_000 * MEBIBYTE
    assert resident_bytes(2**22 + 1) is None


SCRIPT = """
import sys
from evo.engines.jobs import Job
from evo.engines.pool import PoolEngine

if __name__ == "__main__":
    sys.path.insert(0, {folder!r})
    with PoolEngine(2, preload=()) as pool:
        pids = {{outcome.value for outcome in pool.map(Job(str(n), "sample_jobs:process_id") for n in range(20))}}
        list(pool.map([Job("c", "sample_jobs:chatter", "noise")]))
        print(*pids, flush=True)
        for outcome in pool.map(Job(str(n), "sample_jobs:sleep", 600) for n in range(2)):
            pass
"""


def start_script(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A process whose pool is busy for ten minutes, and the ids of its workers."""
    (tmp_path / "script.py").write_text(SCRIPT.format(folder=str(Path(__file__).parent)))
    command = [sys.executable, str(tmp_path / "script.py")]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    line = parent.stdout.readline()
    assert line, parent.communicate()[1]
    pids = [int(word) for word in line.split()]
    time.sleep(0.5)
    assert all(map(is_alive, pids))
    return parent, pids


def test_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C, which reaches the whole process group, ends the run with one traceback, the parent's, and no process."""
    parent, pids = start_script(tmp_path)
    os.killpg(parent.pid, signal.SIGINT)
    _, stderr = parent.communicate(timeout=20)
    assert parent.returncode != 0
    assert stderr.count("Traceback") == 1
    assert "KeyboardInterrupt" in stderr
    assert "noise" in stderr
    wait_until_gone(pids, seconds=1)


def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    """When the parent is killed outright, busy workers notice and end."""
    parent, pids = start_script(tmp_path)
    parent.kill()
    parent.communicate(timeout=20)
    wait_until_gone(pids)


@pytest.mark.parametrize(
    ("number", "shortages"),
    [(signal.SIGTERM, [0]), (signal.SIGHUP, [None]), (signal.SIGKILL, [7]), (signal.SIGKILL, [None])],
)
def test_a_job_whose_worker_is_killed_from_outside_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, shortages: list[int | None]
) -> None:
    """Twice; a third death by somebody's signal is no verdict on the job, and EVO606. By SIGKILL it is one where the
    system does not say that it had memory enough."""
    monkeypatch.setattr("evo.engines.process.times_out_of_memory", lambda: shortages[0])
    with PoolEngine(1, preload=BARE) as pool:
        (outcome,) = pool.map([job("killed_for_a_while", (str(tmp_path / "few"), 2, int(number)))])
        assert (outcome.value, outcome.failure) == (3, None)
        (outcome,) = pool.map([job("killed_for_a_while", (str(tmp_path / "many"), 9, int(number)))])
    assert outcome.failure is not None
    is_hungry = number is signal.SIGKILL and shortages == [None]
    assert outcome.failure.cause == ("crash" if is_hungry else "outside")
    expected = [] if is_hungry else ["EVO606"]
    assert [found.code for found in outcome.failure.diagnostics] == expected


def test_a_full_disk_is_no_verdict() -> None:
    """OSErrors of the system are failures from outside, with a diagnostic."""
    failure = explain(OSError(errno.ENOSPC, "No space left on device"))
    assert (failure.cause, failure.diagnostics[0].code) == ("outside", "EVO004")


FIRST_WORKER = """
from pathlib import Path
from evo.engines.process import WorkerProcess

if __name__ == "__main__":
    worker = WorkerProcess(())
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")))
    worker.process.kill()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_first_worker_of_a_process_never_sees_an_interrupt(tmp_path: Path) -> None:
    """Not even while it starts: Python's resource tracker, which starts before the first one, lets interrupts in."""
    (tmp_path / "script.py").write_text(FIRST_WORKER)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, check=True)
    assert int(done.stdout, 16) & 1 << (signal.SIGINT - 1)
