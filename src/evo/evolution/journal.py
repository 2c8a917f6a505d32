"""The journal: the truth about a run, in SQLite. Candidates, trials, evaluations, placements, generations; a
transaction each.

Everything in it but `timings` is a pure function of the run's settings. A trial is known by its candidate and its rung.
Every number is a row of `scores`: those of an evaluation under their own names, the objective as `objective` and its
terms as `objective.NAME`. Snapshots live here as well, so every file of a run directory can be rebuilt.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.rundirs import APPLICATION_ID
from evo.dsl.task import Score
from evo.evolution.candidate import Candidate
from evo.evolution.fitness import Terms
from evo.evolution.operators.base import WeightSources
from evo.evolution.seals import broken, delete, insert
from evo.evolution.summary import Summary
from evo.evolution.trial import Evaluation, Start, Trial, WeightsRef

VERSION = 3
"""Of the schema. A journal of another version is refused, never migrated."""
SCHEMA = """
CREATE TABLE candidates (
  id TEXT PRIMARY KEY, generation INTEGER NOT NULL, slot INTEGER NOT NULL, hash TEXT NOT NULL, document TEXT NOT NULL,
  patch TEXT NOT NULL, operators TEXT NOT NULL, parents TEXT NOT NULL, origins TEXT NOT NULL
) STRICT;
CREATE TABLE trials (
  candidate TEXT NOT NULL REFERENCES candidates(id), rung INTEGER NOT NULL, generation INTEGER NOT NULL,
  steps INTEGER NOT NULL, start TEXT NOT NULL, PRIMARY KEY (candidate, rung)
) STRICT;
CREATE TABLE evaluations (
  candidate TEXT NOT NULL, rung INTEGER NOT NULL, cause TEXT NOT NULL, message TEXT NOT NULL, result TEXT NOT NULL,
  snapshot BLOB NOT NULL, PRIMARY KEY (candidate, rung)
) STRICT;
CREATE TABLE scores (
  candidate TEXT NOT NULL, rung INTEGER NOT NULL, name TEXT NOT NULL, value REAL, PRIMARY KEY (candidate, rung, name)
) STRICT;
CREATE TABLE placements (
  candidate TEXT NOT NULL, rung INTEGER NOT NULL, archive TEXT NOT NULL, cell INTEGER NOT NULL, status TEXT NOT NULL,
  value REAL NOT NULL, is_elite INTEGER NOT NULL, PRIMARY KEY (candidate, rung, archive)
) STRICT;
CREATE TABLE generations (generation INTEGER PRIMARY KEY, summary TEXT NOT NULL) STRICT;
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE timings (
  candidate TEXT NOT NULL, rung INTEGER NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (candidate, rung)
) STRICT;
CREATE TABLE seals (place TEXT NOT NULL, row TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (place, row)) STRICT;
"""
OBJECTIVE = "objective"


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

    def __init__(self, path: Path | str) -> None:
        """Open or make a journal; ":memory:" makes one that ends with the process.

        Raises:
            DiagnosticError: a file that is none, or one of another version (EVO600); another program holds it
                (EVO605); there is no room (EVO007) or no permission (EVO004).
        """
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise journal_fault(path, error) from None
        try:
            self._db.execute("PRAGMA synchronous=FULL")
            found = self._version()
            if found != VERSION:
                raise sqlite3.DatabaseError(f"its version is {found}, and this evo reads version {VERSION}")
            self._require_sound()
        except sqlite3.Error as error:
            self._db.close()
            raise journal_fault(path, error) from None
        except DiagnosticError:
            self._db.close()
            raise

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
        refs = [trial.ref for trial in self.trials(generation)]
        found = [(ref, self.evaluation(ref, with_snapshot=False)) for ref in refs]
        with self._transaction():
            for ref, evaluation in found:
                if evaluation is not None and evaluation.cause in causes:
                    for table in ("evaluations", "scores", "timings"):
                        delete(self._db, table, ref.candidate, ref.rung)

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
        rows = [(c.id, c.generation, c.slot, c.hash, c.document, c.patch, *_as_json(c)) for c in candidates]
        with self._transaction():
            insert(self._db, "candidates", rows)

    def candidates(self, generation: int | None = None) -> list[Candidate]:
        """Candidates in order, of one generation or of all."""
        where, values = ("", ()) if generation is None else ("WHERE generation = ?", (generation,))
        rows = self._db.execute(f"SELECT * FROM candidates {where} ORDER BY generation, slot", values)
        return [_candidate(row) for row in rows]

    def candidate(self, id: str) -> Candidate:
        """One candidate. Raises KeyError if there is none."""
        row = self._db.execute("SELECT * FROM candidates WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise KeyError(id)
        return _candidate(row)

    def add_trials(self, generation: int, trials: Iterable[Trial]) -> None:
        """Record what a generation asks to have measured, all at once."""
        rows = [(t.candidate.id, t.rung, generation, t.steps, _start_as_json(t.start)) for t in trials]
        with self._transaction():
            insert(self._db, "trials", rows)

    def trials(self, generation: int | None = None) -> list[Trial]:
        """Trials that a generation asked for, or all, in order: rung by rung, each in the order of candidates."""
        where, values = ("", ()) if generation is None else ("WHERE trials.generation = ?", (generation,))
        return self._trials(f"{where} ORDER BY trials.generation, rung, candidates.generation, slot", values)

    def trial(self, ref: WeightsRef) -> Trial:
        """One trial. Raises KeyError if there is none."""
        found = self._trials("WHERE candidate = ? AND rung = ?", (ref.candidate, ref.rung))
        if not found:
            raise KeyError(ref)
        return found[0]

    def _trials(self, which: str, values: tuple[Any, ...]) -> list[Trial]:
        columns = "candidates.*, rung, steps, start"
        rows = self._db.execute(f"SELECT {columns} FROM trials JOIN candidates ON id = candidate {which}", values)
        return [Trial(_candidate(row[:9]), row[9], row[10], _start(row[11])) for row in rows]

    def add_evaluation(self, ref: WeightsRef, evaluation: Evaluation, seconds: float) -> None:
        """Record what came of one trial."""
        key, result = (ref.candidate, ref.rung), json.dumps({"measures": evaluation.measures})
        numbers = [(*key, name, None if math.isnan(value) else value) for name, value in evaluation.scores.items()]
        with self._transaction():
            row = (*key, evaluation.cause, evaluation.message, result, evaluation.snapshot)
            insert(self._db, "evaluations", [row])
            insert(self._db, "scores", numbers)
            insert(self._db, "timings", [(*key, seconds)])

    def evaluation(self, ref: WeightsRef, with_snapshot: bool = True) -> Evaluation | None:
        """What came of a trial, if it was carried out; its snapshot, by far the largest part, only if wanted."""
        snapshot, key = "snapshot" if with_snapshot else "x''", (ref.candidate, ref.rung)
        columns = f"cause, message, result, {snapshot}"
        row = self._db.execute(f"SELECT {columns} FROM evaluations WHERE candidate = ? AND rung = ?", key).fetchone()
        if row is None:
            return None
        cause, message, result, blob = row
        numbers = {name: value for name, value in self._numbers(ref).items() if not _is_objective(name)}
        return Evaluation(cause, message, numbers, tuple(json.loads(result)["measures"]), blob)

    def is_evaluated(self, ref: WeightsRef) -> bool:
        """Whether a trial was carried out."""
        which = "WHERE candidate = ? AND rung = ?"
        return self._db.execute(f"SELECT 1 FROM evaluations {which}", (ref.candidate, ref.rung)).fetchone() is not None

    def costs(self, primary: Score) -> list[dict[str, float]]:
        """For each rung, the cost of every evaluated trial by candidate, in the order in which they were asked for.

        Less is better, and a failure is infinite.
        """
        rows = self._db.execute(
            "SELECT trials.candidate, trials.rung, CASE cause WHEN '' THEN scores.value END "
            "FROM trials JOIN evaluations USING (candidate, rung) JOIN candidates ON id = trials.candidate "
            "LEFT JOIN scores ON scores.candidate = trials.candidate AND scores.rung = trials.rung AND name = ? "
            "ORDER BY trials.generation, trials.rung, candidates.generation, slot",
            (primary.name,),
        )
        found: dict[int, dict[str, float]] = {}
        for candidate, rung, value in rows:
            found.setdefault(rung, {})[candidate] = math.inf if value is None else primary.cost(value)
        return [found.get(rung, {}) for rung in range(max(found, default=-1) + 1)]

    def rung(self, candidate: str) -> int | None:
        """The highest rung at which a candidate gave scores, or None."""
        found = self._db.execute("SELECT MAX(rung) FROM evaluations WHERE candidate = ? AND cause = ''", (candidate,))
        return found.fetchone()[0]

    def _numbers(self, ref: WeightsRef) -> dict[str, float]:
        """Every number of a trial by name, in the order in which they were written."""
        which = "WHERE candidate = ? AND rung = ? ORDER BY rowid"
        rows = self._db.execute(f"SELECT name, value FROM scores {which}", (ref.candidate, ref.rung))
        return {name: math.nan if value is None else value for name, value in rows}

    def add_generation(self, summary: Summary, terms: dict[WeightsRef, Terms], placements: Iterable[Placed]) -> None:
        """Record the end of a generation: objectives with their terms, placements, and the summary."""
        numbers = [
            (ref.candidate, ref.rung, name, value) for ref, own in terms.items() for name, value in _rows(own).items()
        ]
        placed = [
            (p.trial.candidate, p.trial.rung, p.archive, p.cell, p.status, p.value, p.is_elite) for p in placements
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

    def placements(self) -> Iterator[Placed]:
        """Placements, archive by archive, in the order of placing."""
        rows = self._db.execute(
            "SELECT placements.* FROM placements JOIN trials USING (candidate, rung) JOIN candidates ON id = candidate "
            "ORDER BY archive, trials.generation, candidates.generation, slot"
        )
        for candidate, rung, archive, cell, status, value, is_elite in rows:
            yield Placed(WeightsRef(candidate, rung), archive, cell, status, value, bool(is_elite))

    def timings(self) -> dict[WeightsRef, float]:
        """Wall seconds by trial; the only thing here that differs between two equal runs."""
        rows = self._db.execute("SELECT candidate, rung, seconds FROM timings")
        return {WeightsRef(candidate, rung): seconds for candidate, rung, seconds in rows}

    def set_fact(self, key: str, value: Any) -> None:
        """Record one named fact of the run, replacing an earlier one."""
        with self._transaction():
            insert(self._db, "facts", [(key, json.dumps(value))], replace=True)

    def fact(self, key: str) -> Any:
        """A named fact, or None."""
        row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def dump(self) -> dict[str, list[Any]]:
        """Every table but the timings, in a fixed order: equal for equal runs."""
        trial = "candidate, rung"
        tables = {"candidates": "id", "trials": trial, "evaluations": trial, "scores": f"{trial}, name"}
        tables |= {"placements": f"archive, {trial}", "generations": "generation", "facts": "key"}
        return {t: self._db.execute(f"SELECT * FROM {t} ORDER BY {order}").fetchall() for t, order in tables.items()}

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db, self._path)


class _Transaction:
    """BEGIN ... COMMIT, or ROLLBACK where the block or the commit raises; what SQLite raises is a diagnostic."""

    def __init__(self, db: sqlite3.Connection, path: Path | str) -> None:
        self.db, self.path = db, path

    def __enter__(self) -> None:
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise journal_fault(self.path, error) from None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            try:
                self.db.execute("COMMIT")
            except sqlite3.OperationalError as fault:
                error = fault
        if error is not None:
            with suppress(sqlite3.Error):  # SQLite may have rolled back by itself; the first error is the one to tell
                self.db.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError):
            raise journal_fault(self.path, error) from None


def journal_fault(path: Path | str, error: sqlite3.Error) -> DiagnosticError:
    """What SQLite says of a journal: a fault of the surroundings, or of the file itself (EVO600)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # its high bytes say where it happened
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        help = "close the program that has it open, then `evo resume` goes on; the journal is sound"
        return DiagnosticError([Diagnostic("EVO605", f"another program holds {path}", None, help)])
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        help = "make room, then `evo resume` goes on; what the journal holds is sound"
        return DiagnosticError([Diagnostic("EVO007", f"{path} cannot grow: {error}", None, help)])
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return DiagnosticError([Diagnostic("EVO004", f"{path} cannot be written: {error}")])
    return DiagnosticError([Diagnostic("EVO600", f"{path} is not the journal of a run, or is damaged: {error}")])


def _as_json(candidate: Candidate) -> tuple[str, str, str]:
    return json.dumps(candidate.operators), json.dumps(candidate.parents), json.dumps(candidate.origins)


def _candidate(row: tuple[Any, ...]) -> Candidate:
    id, generation, slot, hash, document, patch, operators, parents, origins = row
    made_by, names = tuple(json.loads(operators)), tuple(json.loads(parents))
    return Candidate(id, generation, slot, hash, document, patch, made_by, names, _origins(json.loads(origins)))


def _origins(rows: list[list[Any]]) -> WeightSources:
    return tuple((child, index, source) for child, index, source in rows)


def _start_as_json(start: Start) -> str:
    sources = [[source.candidate, source.rung] for source in start.sources]
    return json.dumps({"sources": sources, "origins": start.origins, "offset": start.offset})


def _start(text: str) -> Start:
    data = json.loads(text)
    sources = tuple(WeightsRef(candidate, rung) for candidate, rung in data["sources"])
    return Start(sources, _origins(data["origins"]), data["offset"])


def _rows(terms: Terms) -> dict[str, float]:
    """The objective and its terms under the names they have among the scores."""
    parts = {"task": terms.task, "efficiency": terms.efficiency, "gradient": terms.gradient}
    return {OBJECTIVE: terms.objective, **{f"{OBJECTIVE}.{name}": value for name, value in parts.items()}}


def _is_objective(name: str) -> bool:
    return name.partition(".")[0] == OBJECTIVE
