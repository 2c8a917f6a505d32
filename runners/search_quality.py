"""Do searches find better architectures? Small searches side by side on one device, and what they found from scratch.

Arms are configurations of `evolve` with equal total training FLOPs: `candidates` times the budget of one. What each
finds, the document that it began with, and the best of a grid over rate, width and depth (`tuned`) are then trained
anew over several seeds at `verify` times the FLOPs of a search's budget, and scored on text that no search read:
searches get a corpus without what the verdict is given on.

    python runners/search_quality.py --device cuda --processes 14 --seeds 0 1 --out results/search

Each call leaves a file of its own, written anew whenever something ended, and `quality.md`, the table over all files
there. `--from FILE` repeats nothing that the file has, so that a call goes on where another was stopped, or, with
another `--verify`, trains what it found for longer. `--combine` only writes the table.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quality_arms import ARMS, GRID, SEED, Found, Hunt, Setting, hunt, search_text
from quality_table import read, tables
from seed_organism import ORGANISM

from evo.base.files import write_atomic
from evo.bench.tables import commit, hardware
from evo.compiler.compute import budget_of, whole_steps
from evo.data.corpus import SHIPPED, load_corpus
from evo.dsl.document import parse
from evo.dsl.evolve import EvolveSpec
from evo.dsl.schedules import Course
from evo.engines.jobs import Job, Outcome
from evo.engines.pool import PoolEngine
from evo.evolution.evaluate import EVALUATE, TrialJob, outcome_of
from evo.evolution.trial import Budget

HELD_OUT = 131_072
"""Tokens that a verdict is given on."""
SEARCHED = 0.75
"""The share of a call's time after which its searches ask for nothing more."""


class Queue(Iterator[Job]):
    """Jobs by rank, the least first. It gives what there is and goes on when more was put in, as engines allow."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Job]] = []
        self._count = 0

    def put(self, rank: float, job: Job) -> None:
        """Add a job; among equals the eldest is first."""
        heapq.heappush(self._heap, (rank, self._count, job))
        self._count += 1

    def __next__(self) -> Job:
        if not self._heap:
            raise StopIteration
        return heapq.heappop(self._heap)[-1]


class Comparison:
    """The hunts and the trainings of the verdict, in one crew of processes."""

    def __init__(self, given: argparse.Namespace, setting: Setting, before: list[dict[str, Any]], file: Path) -> None:
        self.given, self.setting, self.file = given, setting, file
        self.began = time.monotonic()
        self.corpora = {
            Path(name).stem: name if name in SHIPPED else str(Path(name).resolve()) for name in given.corpora
        }
        self.done = {(row["arm"], row["corpus"], row["seed"]): row for call in before for row in call["searches"]}
        self.checked = {
            (row["name"], row["corpus"], row["seed"], row["times"]) for call in before for row in call["checks"]
        }
        self.searches = list[Found]()
        self.checks = list[dict[str, Any]]()
        self.queue = Queue()
        self.owners = dict[str, tuple[Hunt, str]]()
        self.wanted = dict[tuple[str, int], list[dict[str, Any]]]()
        """Trainings of the verdict by document and seed: whose they are, as several searches may find the same."""
        self.told = dict[tuple[str, int], dict[str, Any]]()
        """What came of them."""
        self.verdicts = dict[str, tuple[str, int]]()
        """Them by job."""

    def carry_out(self) -> None:
        """Everything, or what the time is enough for."""
        for corpus in self.corpora:
            self._verify(SEED, corpus, self.setting.document(search_text(corpus)), rank=0.0)
        searches = [(arm, c, seed) for arm in self.given.arms for seed in self.given.seeds for c in self.corpora]
        with PoolEngine(self.given.processes, preload=("evo.evolution.evaluate",)) as engine:
            for key in searches:
                if (row := self.done.get(key)) is not None:
                    self._verify(f"{key[0]}/{key[2]}", key[1], row["document"])
                else:
                    self._go_on(hunt(*key, self.setting))
            for outcome in engine.map(self.queue):
                if outcome.id in self.owners:
                    owner, id = self.owners.pop(outcome.id)
                    owner.tell(id, outcome)
                    self._go_on(owner)
                else:
                    self._note(outcome)
                if time.monotonic() - self.began > self.given.seconds:
                    return

    def _go_on(self, own: Hunt) -> None:
        """Put a hunt's next trainings in, those that are farthest behind first; or those of its winner."""
        if own.is_out:
            return
        is_late = time.monotonic() - self.began > SEARCHED * self.given.seconds
        jobs = {} if is_late else own.next()
        for id, payload in jobs.items():
            job = Job(f"{own.arm}/{own.corpus}/{own.seed}/{id}", EVALUATE, payload)
            self.owners[job.id] = own, id
            self.queue.put(own.progress, job)
        if not jobs:
            found = own.found()
            self.searches.append(found)
            self._verify(f"{own.arm}/{own.seed}", own.corpus, found.document)
            self._write()

    def _verify(self, name: str, corpus: str, document: str, rank: float | None = None) -> None:
        """Put trainings of a document from scratch in, which are scored on the text of the verdict: after searches, the
        longest first."""
        budget = budget_of(parse(self.setting.document(self.corpora[corpus])).document)
        text = document.replace(search_text(corpus), self.corpora[corpus])
        steps = whole_steps(budget, parse(text).document, self.given.verify)
        for seed in range(self.given.verify_seeds):
            if (name, corpus, seed, self.given.verify) in self.checked:
                continue
            payload = TrialJob(
                text, self.setting.root, self.setting.device, course=Course.of(steps), repeat=seed, tolerance=None,
                budget=Budget(held_out_tokens=HELD_OUT),
            )  # fmt: skip
            key, rows = (text, seed), self.wanted.setdefault((text, seed), [])
            rows.append({"name": name, "corpus": corpus, "seed": seed, "times": self.given.verify, "steps": steps})
            if key in self.told:
                self.checks.append({**rows[-1], **self.told[key]})
            elif len(rows) == 1:
                job = Job(f"verdict/{name}/{corpus}/{seed}", EVALUATE, payload)
                self.verdicts[job.id] = key
                self.queue.put(2.0 - 1e-9 * steps if rank is None else rank, job)

    def _note(self, outcome: Outcome) -> None:
        found = outcome_of(outcome)
        score = None if found.cause else found.scores["bits_per_byte"]
        told = {"score": score, "cause": found.cause, "seconds": outcome.seconds}
        key = self.verdicts[outcome.id]
        self.told[key] = told
        self.checks += [{**row, **told} for row in self.wanted[key]]
        self._write()

    def _write(self) -> None:
        self.searches.sort(key=lambda own: (self.given.arms.index(own.arm), own.corpus, own.seed))
        data = {
            "setting": settings_of(self.given), "command": "python runners/search_quality.py " + " ".join(sys.argv[1:]),
            "commit": self.given.commit or commit(), "hardware": hardware(self.setting.device),
            "seconds": time.monotonic() - self.began, "texts": self.given.texts,
            "searches": [asdict(found) for found in self.searches], "checks": self.checks,
        }  # fmt: skip
        write_atomic(self.file, json.dumps(data, indent=1) + "\n")


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """What calls must have in common for their searches to stand in one table."""
    own = {"organism": given.organism.stem} if given.organism else {}
    sizes = {"steps": given.steps, "candidates": given.candidates, "population": given.population}
    return {**sizes, "batch": given.batch, "shrink": given.shrink, **own}


def write_texts(root: Path, corpora: list[str]) -> dict[str, dict[str, Any]]:
    """Write what searches get of each corpus: what it trains on, without what it holds out. Gives by stem how large a
    corpus is, and the digest of its bytes and of how they are split."""
    found = dict[str, dict[str, Any]]()
    for name in corpora:
        corpus, stem = load_corpus(name), Path(name).stem
        (root / search_text(stem)).write_bytes(corpus.train.tobytes())
        found[stem] = {"bytes": len(corpus.train) + len(corpus.held_out), "digest": corpus.digest}
    return found


def main() -> None:
    """Search, verify, write."""
    parser = argparse.ArgumentParser(description="Do searches find better architectures?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--corpora", nargs="+", default=["shakespeare", "python"], help="shipped ones, or files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, GRID], default=[*ARMS, GRID])
    parser.add_argument("--organism", type=Path, help="a document without `train`; left out, that of seed_organism.py")
    parser.add_argument("--baseline", type=Path, help="a document that `tuned` is over; left out, the organism")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=Setting.batch, help="rows of a training step")
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--population", type=int, default=4)
    parser.add_argument("--most-seconds", type=float, default=60, help="the longest training of a search")
    parser.add_argument(
        "--shrink", type=float, default=EvolveSpec().shrink, help="as in `evolve`, of every arm and the grid"
    )
    parser.add_argument("--verify", type=float, default=3.3)
    parser.add_argument("--verify-seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=560, help="after which what is left is let go of")
    parser.add_argument("--from", dest="before", type=Path, nargs="*", default=[])
    parser.add_argument("--combine", action="store_true")
    parser.add_argument("--commit", help="where the files have no history")
    parser.add_argument("--out", type=Path, default=Path("results/search"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    before = [json.loads(file.read_text()) for file in given.before]
    if not given.combine:
        name = f"quality_{given.steps}x{given.candidates}_verify_{given.verify:g}_{'_'.join(map(str, given.seeds))}"
        with tempfile.TemporaryDirectory() as folder:
            given.texts = write_texts(Path(folder), given.corpora)
            organism = given.organism.read_text() if given.organism else ORGANISM
            baseline = given.baseline.read_text() if given.baseline else organism
            setting = Setting(
                given.device, folder, organism, baseline, given.steps, given.candidates, given.population,
                given.most_seconds, given.shrink, given.batch,
            )  # fmt: skip
            Comparison(given, setting, before, given.out / f"{name}.json").carry_out()
    known = read(given.out)
    page = tables([*(call for call in before if call not in known), *known])
    (given.out / "quality.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
