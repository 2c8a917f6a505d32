"""Runs that are killed, at any moment and in every way, end as those that were not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from searches import dump, seed_document, variants

import strangers

FOLDER = Path(__file__).parent


def killed(tmp_path: Path, stride: int, twice: int, *more: str) -> dict[str, Any]:
    """What `killed_runs` printed."""
    command = [sys.executable, str(FOLDER / "killed_runs.py"), str(tmp_path), str(stride), str(twice), *more]
    strangers.install(tmp_path / "installed")
    path = [str(tmp_path / "installed"), str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER, env=environ, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("stride", "twice"), [(5, 1_000_000), (7, 31)])
def test_a_run_killed_anywhere_ends_the_same(tmp_path: Path, stride: int, twice: int) -> None:
    """SIGKILL at events all over a run, and again while resuming: files, journal and settings equal the whole run's."""
    found = killed(tmp_path, stride, twice)
    assert found["unequal"] == []
    assert found["events"] > 150
    assert found["kills"] > 20


@pytest.mark.slow
def test_a_run_of_strangers_killed_anywhere_ends_the_same(tmp_path: Path) -> None:
    """The same with strangers of every role: no promotion is lost, repeated or decided otherwise."""
    found = killed(tmp_path, 11, 53, "strangers")
    assert found["unequal"] == []
    assert found["events"] > 150


@pytest.mark.slow
def test_a_command_killed_at_any_time_ends_the_same(tmp_path: Path) -> None:
    """`evo evolve` with workers, killed by the clock again and again and resumed, equals one that ran through."""
    (tmp_path / "seed.yaml").write_text(seed_document())
    options = ["--generations", "1", "--population", "2", "--workers", "1", "--seed", "3"]
    evolve = [sys.executable, "-m", "evo", "evolve", str(tmp_path / "seed.yaml"), *options]
    subprocess.run([*evolve, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    command = [*evolve, "--out", str(tmp_path / "killed")]
    for seconds in (6, 9, 12, 15, 1000):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if (tmp_path / "killed" / "run.yaml").exists():
            command = [sys.executable, "-m", "evo", "resume", str(tmp_path / "killed")]
    assert process.returncode == 0
    assert dump(tmp_path / "killed") == dump(tmp_path / "whole")
    assert variants(tmp_path / "killed") == variants(tmp_path / "whole")


def printed(script: str, *arguments: str) -> Any:
    """What a script of this folder printed at its end."""
    path = os.pathsep.join([str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(FOLDER / script), *arguments]
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER, env=environ, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_commands_stopped_in_every_way_end_the_same(tmp_path: Path) -> None:
    """SIGKILL of the command or a worker, SIGTERM, Ctrl-C once and twice, with 0 to 3 workers, at random moments."""
    found = printed("killed_commands.py", str(tmp_path), "6")
    assert [found["failed"], found["unequal"], found["tracebacks"]] == [[], [], []]
    assert found["kills"] == 6
    assert found["whole runs equal"]


def can_mount(place: Path) -> bool:
    """Whether this process may make disks of its own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    tried = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(place)], capture_output=True)
    return tried.returncode == 0 and subprocess.run(["umount", str(place)], check=True).returncode == 0


@pytest.mark.slow
def test_a_full_disk_has_a_code_and_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """Disks full before anything, in the journal, in a variant's files: EVO007, then the same run after all."""
    if not can_mount(tmp_path):
        pytest.skip("making a small disk needs root on Linux")
    for found in printed("full_disks.py", str(tmp_path), "4", "32", "96", "160"):
        assert found["status"] not in (0, None), found
        assert [found[key] for key in ("has code", "traceback", "resumed", "equal")] == [True, False, 0, True], found
