"""Runs `evo evolve` and `evo resume` again and again, stops them by the clock in every way, and prints what came of it.

    killed_commands.py FOLDER COUNT [SEED]

COUNT interruptions at random moments: SIGKILL of the command or of one of its workers, SIGTERM, Ctrl-C once and twice,
with 0 to 3 workers, while it begins and while it resumes. Each run is resumed to its end and compared with one that
nobody stopped. Commands are forked from this process, so that torch is imported once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import searches

import evo.evolution.evaluate  # pyright: ignore[reportUnusedImport]
import evo.report.search  # noqa: F401  # pyright: ignore[reportUnusedImport]
from evo.cli.app import main as evo_main

MOST = 4
"""Interruptions of one run."""
WAYS = ("kill", "kill worker", "term", "interrupt", "interrupt twice")
WORKERS = (0, 0, 0, 0, 0, 0, 1, 1, 2, 3)
FINE = {0, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}


class Command:
    """A command of evo in a forked process, in a group of its own, with its output in a file."""

    def __init__(self, log: Path, arguments: list[str]) -> None:
        self.log = log
        self.pid = os.fork()
        if self.pid:
            return
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        status: Any = 1
        try:
            evo_main(arguments)
        except SystemExit as end:
            status = end.code
        finally:
            sys.stdout.flush()
            os._exit(status if isinstance(status, int) else 0)

    def wait(self, seconds: float) -> int | None:
        """Its exit status, negative for a signal, if it ends in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def stop(self, way: str, draws: random.Random) -> bool:
        """Stop it; whether that is expected to end it."""
        if way == "kill worker":
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            for child in draws.sample(children, min(1, len(children))):
                os.kill(int(child), signal.SIGKILL)
            return False
        number = {"kill": signal.SIGKILL, "term": signal.SIGTERM}.get(way, signal.SIGINT)
        if number is signal.SIGINT:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)
        if way == "interrupt twice":
            time.sleep(draws.uniform(0.0, 0.3))
            os.killpg(self.pid, number)
        return True


def facts(folder: Path) -> Any:
    """All that two equal runs have in common."""
    return [searches.variants(folder), repr(searches.dump(folder))]


def attempt(root: Path, index: int, durations: dict[int, float], left: int, draws: random.Random, found: Any) -> int:
    """One run, stopped some times and then resumed to its end; how often it was stopped."""
    folder, log, kills = root / f"run_{index}", root / f"run_{index}.log", 0
    limit = min(left, draws.randint(1, MOST))
    while True:
        workers = draws.choice(WORKERS)
        is_there = (folder / "run.yaml").exists()
        begin = ["evolve", str(root / "seed.yaml"), *OPTIONS, "--out", str(folder)]
        command = Command(log, [*(["resume", str(folder)] if is_there else begin), "--workers", str(workers)])
        if kills >= limit:
            status = command.wait(600)
            if status != 0:
                found["failed"].append([index, status])
            return kills
        began = time.monotonic()
        status = command.wait(draws.uniform(0.0, 0.9 * durations[workers]))
        if status is not None and not is_there:  # the machine is quicker now than it was
            durations[workers] = min(durations[workers], time.monotonic() - began)
        if status is None:
            way = draws.choice(WAYS)
            kills += 1
            found["ways"][way] += 1
            with suppress(ProcessLookupError):  # it ended meanwhile
                command.stop(way, draws)
            status = command.wait(600)
        found["statuses"][str(status)] += 1
        if status not in FINE:
            found["failed"].append([index, status])
        if status == 0:
            return kills


SMALL = ["--verify", "{seeds: 1}", "--repeats", "2"]
OPTIONS = ["--generations", "2", "--population", "3", "--cells", "8", "--seed", "3", *SMALL]
WHOLE = {0: (0,), 2: (1, 2, 3)}
"""The workers of runs that nobody stops, and of those that take about as long."""


def main(root: Path, count: int, seed: int) -> None:
    """Stop commands `count` times."""
    (root / "text.txt").write_text("to be or not to be, that is the question " * 160)
    (root / "seed.yaml").write_text(searches.seed_document(task={"kind": "bytes", "corpus": "text.txt"}))
    durations: dict[int, float] = {}
    for workers, alike in WHOLE.items():
        started = time.monotonic()
        out = ["--out", str(root / f"whole_{workers}"), "--workers", str(workers)]
        assert Command(root / "whole.log", ["evolve", str(root / "seed.yaml"), *OPTIONS, *out]).wait(600) == 0
        durations.update(dict.fromkeys(alike, time.monotonic() - started))
    expected = facts(root / "whole_0")
    found: Any = {"ways": Counter(), "statuses": Counter(), "failed": [], "unequal": [], "tracebacks": []}
    draws, kills, index = random.Random(seed), 0, 0
    while kills < count:
        kills += attempt(root, index, durations, count - kills, draws, found)
        if facts(root / f"run_{index}") != expected:
            found["unequal"].append(index)
        if "Traceback" in (root / f"run_{index}.log").read_text(errors="replace"):
            found["tracebacks"].append(index)
        index += 1
        (root / "found.json").write_text(json.dumps({"kills": kills, "runs": index, **found}))
    same = [facts(root / f"whole_{workers}") == expected for workers in WHOLE]
    print(json.dumps({"kills": kills, "runs": index, "whole runs equal": all(same), "seconds": durations, **found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
