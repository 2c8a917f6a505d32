"""The journal: the truth about a run, in SQLite. Candidates, trials, evaluations, placements, generations; a
transaction each.

Everything in it but `timings` is a pure function of the run's settings. A trial is known by its candidate, its
rung, and how often that was tried before.
Every number is a row of `scores`: those of an evaluation under their own names, the objective as `objective` and its
terms as `objective.NAME`. Snapshots live here as well, so every file of a run directory can be rebuilt.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.rundirs import APPLICATION_ID
from evo.dsl.ranking import Ranking
from evo.dsl.task import Score
from evo.evolution.candidate import Candidate
from evo.evolution.fitness import Terms
from evo.evolution.journal_rows import (
    OBJECTIVE,
    Key,
    candidate_of,
    candidate_texts,
    evaluation_of,
    key_of,
    score_rows,
    start_text,
    trial_of,
)
from evo.evolution.past import Descent, Past
from evo.evolution.seals import broken, delete, insert
from evo.evolution.summary import Summary
from evo.evolution.transaction import Transaction, journal_fault
from evo.evolution.trial import Evaluation, Timing, Trial, WeightsRef

VERSION = 7
"""Of the schema. A journal of another version is refused, never migrated."""
SCHEMA = """
CREATE TABLE candidates (
  id TEXT PRIMARY KEY, generation INTEGER NOT NULL, slot INTEGER NOT NULL, hash TEXT NOT NULL, document TEXT NOT NULL,
  patch TEXT NOT NULL, operators TEXT NOT NULL, parents TEXT NOT NULL, origins TEXT NOT NULL
) STRICT;
CREATE TABLE trials (
  candidate TEXT NOT NULL REFERENCES candidates(id), rung INTEGER NOT NULL, repeat INTEGER NOT NULL,
  generation INTEGER NOT NULL, steps INTEGER NOT NULL, start TEXT NOT NULL, rungs TEXT NOT NULL,
  done INTEGER NOT NULL, PRIMARY KEY (candidate, rung, repeat)
) STRICT;
CREATE TABLE evaluations (
  candidate TEXT NOT NULL, rung INTEGER NOT NULL, repeat INTEGER NOT NULL, cause TEXT NOT NULL, message TEXT NOT NULL,
  result TEXT NOT NULL, snapshot BLOB NOT NULL, PRIMARY KEY (candidate, rung, repeat)
) STRICT;
CREATE TABLE scores (
  candidate TEXT NOT NULL, rung INTEGER NOT NULL, repeat INTEGER NOT NULL, name TEXT NOT NULL, value REAL,
  PRIMARY KEY (candidate, rung, repeat, name)
) STRICT;
CREATE TABLE placements (
  generation INTEGER NOT NULL, place INTEGER NOT NULL, candidate TEXT NOT NULL, rung INTEGER NOT NULL,
  archive TEXT NOT NULL, cell INTEGER NOT NULL, status TEXT NOT NULL, value REAL NOT NULL, is_elite INTEGER NOT NULL,
  PRIMARY KEY (generation, place)
) STRICT;
CREATE TABLE generations (generation INTEGER PRIMARY KEY, summary TEXT NOT NULL) STRICT;
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE timings (
  candidate TEXT NOT NULL, rung INTEGER NOT NULL, repeat INTEGER NOT NULL, seconds REAL NOT NULL,
  ended REAL NOT NULL, PRIMARY KEY (candidate, rung, repeat)
) STRICT;
CREATE INDEX candidates_of ON candidates (generation, slot);
CREATE INDEX trials_of ON trials (generation);
CREATE TABLE seals (place TEXT NOT NULL, row TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (place, row)) STRICT;
"""
TRIAL = "candidate = ? AND rung = ? AND repeat = ?"
"""The condition of a trial's rows."""
SAME_TRIAL = " AND ".join(f"evaluations.{column} = trials.{column}" for column in ("candidate", "rung", "repeat"))
"""The condition of the evaluation that belongs to a trial."""
IN_ORDER = "trials.generation, rung, repeat, candidates.generation, slot"
"""The order in which trials are asked for."""


@dataclass(frozen=True)
class Placed:
    """What an archive made of one evaluation; see `evo.archive.cvt.Placement`."""

    trial: WeightsRef
    archive: str
    cell: int
    status: str
    value: float
    is_elite: bool


class Journal:
    """An open journal. Reading and writing are safe against a kill at any moment."""

    def __init__(self, path: Path | str, *, only_read: bool = False) -> None:
        """Open or make a journal; ":memory:" makes one that ends with the process.

        only_read: see it as it is at this moment, while another process may write it; that one waits until this is
        closed. It is not made, and its rows are not held against their seals.

        Raises:
            DiagnosticError: a file that is none, or one of another version (EVO600); another program holds it
                (EVO605); there is no room (EVO007) or no permission (EVO004).
        """
        self._path = path
        if only_read and not Path(path).exists():
            help = "put it back from a copy, or let `evo resume` begin a run that has no generation yet"
            raise DiagnosticError([Diagnostic("EVO600", f"there is no journal {path}", None, help)])
        try:
            where = f"{Path(path).resolve().as_uri()}?mode=rw" if only_read else path
            self._db = sqlite3.connect(where, isolation_level=None, uri=only_read)
        except sqlite3.Error as error:
            raise journal_fault(path, error) from None
        try:
            if only_read:
                self._db.execute("BEGIN")
                found = self._db.execute("PRAGMA user_version").fetchone()[0]
            else:
                self._db.execute("PRAGMA synchronous=FULL")
                found = self._version()
            if found != VERSION:
                raise sqlite3.DatabaseError(f"its version is {found}, and this evo reads version {VERSION}")
            if not only_read:
                self._require_sound()
        except sqlite3.Error as error:
            self._db.close()
            raise journal_fault(path, error) from None
        except DiagnosticError:
            self._db.close()
            raise
        self.past = Past(self._db)

    @classmethod
    def copied(cls, path: Path) -> Journal:
        """What a journal holds at this moment, in memory: its writer waits for the copying alone.

        Raises:
            DiagnosticError: as `Journal` does.
        """
        with closing(cls(path, only_read=True)) as journal:
            copy = cls(":memory:")
            try:
                journal._db.backup(copy._db)
            except sqlite3.Error as error:
                copy.close()
                raise journal_fault(path, error) from None
            return copy

    def _require_sound(self) -> None:
        """Raise sqlite3.DatabaseError unless the file is whole, of our schema, and every row is as it was written."""
        (found,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        laid = {row[0] for row in self._db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        if laid != {statement.strip() for statement in SCHEMA.split(";") if statement.strip()}:
            raise sqlite3.DatabaseError("its tables are not those of a journal")
        fault = broken(self._db)
        if fault is not None:
            raise sqlite3.DatabaseError(fault)

    def forget_failures(self, generation: int, causes: tuple[str, ...]) -> None:
        """Forget the failures of a generation that have one of these causes, so that their trials are run again."""
        found = self.evaluations(generation, with_snapshot=False)
        with self._transaction():
            for trial, evaluation in found.items():
                if evaluation.cause in causes:
                    for table in ("evaluations", "scores", "timings"):
                        delete(self._db, table, *key_of(trial.ref))
        self.past = Past(self._db)

    def _version(self) -> int:
        """The version of the schema, which is laid down first if the file is empty."""
        with self._transaction():
            if self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version={VERSION}")
            return self._db.execute("PRAGMA user_version").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add_candidates(self, candidates: Iterable[Candidate]) -> None:
        """Record what a generation asks about, all at once."""
        rows = [(c.id, c.generation, c.slot, c.hash, c.document, c.patch, *candidate_texts(c)) for c in candidates]
        with self._transaction():
            insert(self._db, "candidates", rows)

    def candidates(self, generation: int | None = None) -> list[Candidate]:
        """Candidates in order, of one generation or of all."""
        where, values = ("", ()) if generation is None else ("WHERE generation = ?", (generation,))
        rows = self._db.execute(f"SELECT * FROM candidates {where} ORDER BY generation, slot", values)
        return [candidate_of(row) for row in rows]

    def descent(self) -> Sequence[Descent]:
        """Every candidate's id, parents and operators, in order: `candidates` without the documents."""
        return self.past.descent()

    def candidates_before(self, generation: int) -> int:
        """How many candidates the generations before one have."""
        found = self._db.execute("SELECT COUNT(*) FROM candidates WHERE generation < ?", (generation,))
        return found.fetchone()[0]

    def candidate(self, id: str) -> Candidate:
        """One candidate. Raises KeyError if there is none."""
        row = self._db.execute("SELECT * FROM candidates WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise KeyError(id)
        return candidate_of(row)

    def add_trials(self, generation: int, trials: Iterable[Trial]) -> None:
        """Record what a generation asks to have measured, all at once."""
        rows = [(*key_of(t.ref), generation, t.steps, start_text(t.start), json.dumps(t.rungs), t.done) for t in trials]
        with self._transaction():
            insert(self._db, "trials", rows)

    def trials(self, generation: int | None = None) -> list[Trial]:
        """Trials that a generation asked for, or all, in order: rung by rung, each in the order of candidates."""
        where, values = ("", ()) if generation is None else ("WHERE trials.generation = ?", (generation,))
        return self._trials(f"{where} ORDER BY {IN_ORDER}", values)

    def trial(self, ref: WeightsRef) -> Trial:
        """One trial. Raises KeyError if there is none."""
        found = self._trials(f"WHERE {TRIAL}", key_of(ref))
        if not found:
            raise KeyError(ref)
        return found[0]

    def has(self, trial: Trial) -> bool:
        """Whether it was asked for, as it is."""
        return trial in self._trials(f"WHERE {TRIAL}", key_of(trial.ref))

    def waiting(self, generation: int) -> list[Trial]:
        """Those of `trials` that were not carried out yet."""
        missing = f"NOT EXISTS (SELECT 1 FROM evaluations WHERE {SAME_TRIAL})"
        return self._trials(f"WHERE trials.generation = ? AND {missing} ORDER BY {IN_ORDER}", (generation,))

    def _trials(self, which: str, values: tuple[Any, ...]) -> list[Trial]:
        columns = "candidates.*, rung, steps, start, rungs, done, repeat"
        rows = self._db.execute(f"SELECT {columns} FROM trials JOIN candidates ON id = candidate {which}", values)
        return [trial_of(candidate_of(row[:9]), *row[9:]) for row in rows]

    def add_evaluation(self, ref: WeightsRef, evaluation: Evaluation, seconds: float) -> None:
        """Record what came of one trial."""
        key, lives = key_of(ref), [astuple(lived) for lived in evaluation.lives]
        told = {"measures": evaluation.measures, "curve": evaluation.curve, **({"lives": lives} if lives else {})}
        result = json.dumps(told)
        numbers = [(*key, name, None if math.isnan(value) else value) for name, value in evaluation.scores.items()]
        with self._transaction():
            row = (*key, evaluation.cause, evaluation.message, result, evaluation.snapshot)
            insert(self._db, "evaluations", [row])
            insert(self._db, "scores", numbers)
            insert(self._db, "timings", [(*key, seconds, time.time())])

    def evaluation(self, ref: WeightsRef, with_snapshot: bool = True) -> Evaluation | None:
        """What came of a trial, if it was carried out; its snapshot, by far the largest part, only if wanted."""
        columns = f"cause, message, result, {_snapshot(with_snapshot)}"
        row = self._db.execute(f"SELECT {columns} FROM evaluations WHERE {TRIAL}", key_of(ref)).fetchone()
        return None if row is None else evaluation_of(self._numbers(ref), *row)

    def evaluations(self, generation: int | None = None, with_snapshot: bool = True) -> dict[Trial, Evaluation]:
        """The same of all `trials` that were carried out, in their order."""
        where, values = ("", ()) if generation is None else ("WHERE trials.generation = ?", (generation,))
        of_trials = f"JOIN trials USING (candidate, rung, repeat) {where}"
        numbers = defaultdict[Key, dict[str, float]](dict)
        scores = f"SELECT candidate, rung, repeat, name, value FROM scores {of_trials} ORDER BY scores.rowid"
        for *key, name, value in self._db.execute(scores, values):
            numbers[tuple(key)][name] = math.nan if value is None else value
        columns = f"candidate, rung, repeat, cause, message, result, {_snapshot(with_snapshot)}"
        rows = self._db.execute(f"SELECT {columns} FROM evaluations {of_trials}", values)
        found = {(key := tuple(own[:3])): evaluation_of(numbers[key], *own[3:]) for own in rows}
        return {t: found[key_of(t.ref)] for t in self.trials(generation) if key_of(t.ref) in found}

    def is_evaluated(self, ref: WeightsRef) -> bool:
        """Whether a trial was carried out."""
        return self._db.execute(f"SELECT 1 FROM evaluations WHERE {TRIAL}", key_of(ref)).fetchone() is not None

    def costs(self, primary: Score) -> list[Ranking]:
        """For each rung, the cost of every evaluated trial by candidate, in the order in which they were asked for.

        Less is better, and a failure is infinite. Of a candidate's trials at one rung it is the mean.
        """
        return self.past.costs(primary)

    def rungs(self, candidate: str) -> list[int]:
        """The rungs at which a candidate gave scores, the lowest first."""
        which = "candidate = ? AND cause = '' AND repeat = 0 ORDER BY rung"
        return [rung for (rung,) in self._db.execute(f"SELECT rung FROM evaluations WHERE {which}", (candidate,))]

    def rung(self, candidate: str) -> int | None:
        """The highest rung at which a candidate gave scores, or None."""
        return max(self.rungs(candidate), default=None)

    def _numbers(self, ref: WeightsRef) -> dict[str, float]:
        """Every number of a trial by name, in the order in which they were written."""
        rows = self._db.execute(f"SELECT name, value FROM scores WHERE {TRIAL} ORDER BY rowid", key_of(ref))
        return {name: math.nan if value is None else value for name, value in rows}

    def add_generation(self, summary: Summary, terms: dict[WeightsRef, Terms], placements: Iterable[Placed]) -> None:
        """Record the end of a generation: objectives with their terms, placements, and the summary."""
        numbers = [(*key_of(ref), name, value) for ref, own in terms.items() for name, value in score_rows(own).items()]
        placed = [
            (summary.generation, n, p.trial.candidate, p.trial.rung, p.archive, p.cell, p.status, p.value, p.is_elite)
            for n, p in enumerate(placements)
        ]
        with self._transaction():
            insert(self._db, "scores", numbers)
            insert(self._db, "placements", placed)
            insert(self._db, "generations", [(summary.generation, json.dumps(asdict(summary)))])

    def finished(self) -> int:
        """How many generations are finished."""
        return self._db.execute("SELECT COUNT(*) FROM generations").fetchone()[0]

    def generations(self) -> list[Summary]:
        """The summaries of the finished generations, in order."""
        rows = self._db.execute("SELECT summary FROM generations ORDER BY generation")
        return [Summary(**json.loads(row[0])) for row in rows]

    def terms(self, ref: WeightsRef) -> Terms | None:
        """The objective of a trial and its terms, if it was placed."""
        numbers = self._numbers(ref)
        if OBJECTIVE not in numbers:
            return None
        parts = {name: numbers[f"{OBJECTIVE}.{name}"] for name in ("task", "efficiency", "gradient")}
        return Terms(objective=numbers[OBJECTIVE], **parts)

    def placements(self, archive: str = "") -> Iterator[Placed]:
        """Placements in one archive, or archive by archive, in the order of placing."""
        columns, where = "candidate, rung, archive, cell, status, value, is_elite", "WHERE ? IN ('', archive)"
        query = f"SELECT {columns} FROM placements {where} ORDER BY archive, generation, place"
        rows = self._db.execute(query, (archive,))
        for candidate, rung, archive, cell, status, value, is_elite in rows:
            yield Placed(WeightsRef(candidate, rung), archive, cell, status, value, bool(is_elite))

    def timings(self) -> dict[WeightsRef, Timing]:
        """When trials were carried out; the only thing here that differs between two equal runs."""
        rows = self._db.execute("SELECT candidate, rung, repeat, seconds, ended FROM timings")
        return {WeightsRef(candidate, rung, repeat): Timing(*own) for candidate, rung, repeat, *own in rows}

    def set_fact(self, key: str, value: Any) -> None:
        """Record one named fact of the run, replacing an earlier one."""
        self.set_facts({key: value})

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Record several at once: all or none of them."""
        with self._transaction():
            insert(self._db, "facts", [(key, json.dumps(value)) for key, value in facts.items()], replace=True)

    def fact(self, key: str) -> Any:
        """A named fact, or None."""
        row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def dump(self) -> dict[str, list[Any]]:
        """Every table but the timings, in a fixed order: equal for equal runs."""
        trial = "candidate, rung, repeat"
        tables = {"candidates": "id", "trials": trial, "evaluations": trial, "scores": f"{trial}, name"}
        tables |= {"placements": "generation, place", "generations": "generation", "facts": "key"}
        return {t: self._db.execute(f"SELECT * FROM {t} ORDER BY {order}").fetchall() for t, order in tables.items()}

    def _transaction(self) -> Transaction:
        return Transaction(self._db, self._path)


def _snapshot(is_wanted: bool) -> str:
    """The column of snapshots, by far the largest part of an evaluation, or an empty one."""
    return "snapshot" if is_wanted else "x''"
