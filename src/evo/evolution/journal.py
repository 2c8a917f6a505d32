"""The journal: the truth about a run, in SQLite. Candidates, evaluations, placements, generations; a transaction each.

Everything in it but `timings` is a pure function of the run's settings. Snapshots live here as well, so every file of a
run directory can be rebuilt.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.evolution.evaluate import Evaluation
from evo.evolution.operators.base import Origins

SCHEMA = """
CREATE TABLE IF NOT EXISTS candidates (
  id TEXT PRIMARY KEY, generation INTEGER NOT NULL, slot INTEGER NOT NULL, hash TEXT NOT NULL, document TEXT NOT NULL,
  patch TEXT NOT NULL, operators TEXT NOT NULL, parents TEXT NOT NULL, origins TEXT NOT NULL,
  steps_before INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS evaluations (
  id TEXT PRIMARY KEY REFERENCES candidates(id), cause TEXT NOT NULL, message TEXT NOT NULL, bits_per_byte REAL,
  result TEXT NOT NULL, snapshot BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS scores (
  id TEXT PRIMARY KEY REFERENCES evaluations(id), objective REAL NOT NULL, task REAL NOT NULL,
  efficiency REAL NOT NULL, gradient REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS placements (
  id TEXT NOT NULL, archive TEXT NOT NULL, cell INTEGER NOT NULL, status TEXT NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (id, archive)
) STRICT;
CREATE TABLE IF NOT EXISTS generations (generation INTEGER PRIMARY KEY, summary TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS timings (id TEXT PRIMARY KEY, seconds REAL NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class Candidate:
    """One organism that the search asked about.

    id: `GENERATION/SLOT`, four and two digits. patch: YAML, from the first parent. parents: ids. origins: see
    `Proposal`. steps_before: training steps along its line of first parents.
    """

    id: str
    generation: int
    slot: int
    hash: str
    document: str
    patch: str = ""
    operators: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    origins: Origins = ()
    steps_before: int = 0


def candidate_id(generation: int, slot: int) -> str:
    """The name of a candidate."""
    return f"{generation:04d}/{slot:02d}"


class Journal:
    """An open journal. Reading and writing are safe against a kill at any moment."""

    def __init__(self, path: Path) -> None:
        """Open or make a journal. Raises DiagnosticError (EVO600) for a file that is none."""
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._db.execute("PRAGMA synchronous=FULL")
            with self._transaction():
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise DiagnosticError([Diagnostic("EVO600", f"{path} is not the journal of a run: {error}")]) from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add_candidates(self, candidates: Iterable[Candidate]) -> None:
        """Record what a generation asks about, all at once."""
        rows = [
            (c.id, c.generation, c.slot, c.hash, c.document, c.patch, *_as_json(c), c.steps_before) for c in candidates
        ]
        with self._transaction():
            self._db.executemany("INSERT INTO candidates VALUES (?,?,?,?,?,?,?,?,?,?)", rows)

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

    def add_evaluation(self, id: str, evaluation: Evaluation, seconds: float) -> None:
        """Record what came of one candidate."""
        data = asdict(evaluation)
        snapshot = data.pop("snapshot")
        score = evaluation.bits_per_byte if evaluation.bits_per_byte == evaluation.bits_per_byte else None
        with self._transaction():
            row = (id, evaluation.cause, evaluation.message, score, json.dumps(data), snapshot)
            self._db.execute("INSERT INTO evaluations VALUES (?,?,?,?,?,?)", row)
            self._db.execute("INSERT INTO timings VALUES (?,?)", (id, seconds))

    def evaluation(self, id: str, with_snapshot: bool = True) -> Evaluation | None:
        """What came of a candidate, if it was evaluated; its snapshot, by far the largest part, only if wanted."""
        snapshot = "snapshot" if with_snapshot else "x''"
        row = self._db.execute(f"SELECT result, {snapshot} FROM evaluations WHERE id = ?", (id,)).fetchone()
        if row is None:
            return None
        data = json.loads(row[0])
        return Evaluation(**{**data, "measures": tuple(data["measures"]), "snapshot": row[1]})

    def add_generation(
        self,
        generation: int,
        summary: dict[str, Any],
        scores: Iterable[tuple[str, float, float, float, float]],
        placements: Iterable[tuple[str, str, int, str, float]],
    ) -> None:
        """Record the end of a generation: scores (id, objective, task, efficiency, gradient), placements (id, archive,
        cell, status, value) and the summary."""
        with self._transaction():
            self._db.executemany("INSERT INTO scores VALUES (?,?,?,?,?)", scores)
            self._db.executemany("INSERT INTO placements VALUES (?,?,?,?,?)", placements)
            self._db.execute("INSERT INTO generations VALUES (?,?)", (generation, json.dumps(summary)))

    def finished(self) -> int:
        """How many generations are finished."""
        return self._db.execute("SELECT COUNT(*) FROM generations").fetchone()[0]

    def generations(self) -> list[dict[str, Any]]:
        """The summaries of the finished generations, in order."""
        return [json.loads(row[0]) for row in self._db.execute("SELECT summary FROM generations ORDER BY generation")]

    def scores(self) -> dict[str, dict[str, float]]:
        """The terms of the objective by candidate."""
        names = ("objective", "task", "efficiency", "gradient")
        rows = self._db.execute("SELECT id, objective, task, efficiency, gradient FROM scores ORDER BY id")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}

    def placements(self) -> Iterator[tuple[str, str, int, str, float]]:
        """(id, archive, cell, status, value), archive by archive, in the order of placing."""
        yield from self._db.execute(
            "SELECT placements.* FROM placements JOIN candidates USING (id) ORDER BY archive, generation, slot"
        )

    def timings(self) -> dict[str, float]:
        """Wall seconds by candidate; the only thing here that differs between two equal runs."""
        return dict(self._db.execute("SELECT id, seconds FROM timings").fetchall())

    def set_fact(self, key: str, value: Any) -> None:
        """Record one named fact of the run, replacing an earlier one."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?,?)", (key, json.dumps(value)))

    def fact(self, key: str) -> Any:
        """A named fact, or None."""
        row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def dump(self) -> dict[str, list[Any]]:
        """Every table but the timings, in a fixed order: equal for equal runs."""
        tables = {"candidates": "id", "evaluations": "id", "scores": "id", "placements": "archive, id"}
        tables |= {"generations": "generation", "facts": "key"}
        return {t: self._db.execute(f"SELECT * FROM {t} ORDER BY {order}").fetchall() for t, order in tables.items()}

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """BEGIN ... COMMIT, or ROLLBACK where the block raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def __enter__(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.db.execute("COMMIT" if kind is None else "ROLLBACK")


def _as_json(candidate: Candidate) -> tuple[str, str, str]:
    return json.dumps(candidate.operators), json.dumps(candidate.parents), json.dumps(candidate.origins)


def _candidate(row: tuple[Any, ...]) -> Candidate:
    id, generation, slot, hash, document, patch, operators, parents, origins, steps_before = row
    moved = tuple((child, index, source) for child, index, source in json.loads(origins))
    made_by, names = tuple(json.loads(operators)), tuple(json.loads(parents))
    return Candidate(id, generation, slot, hash, document, patch, made_by, names, moved, steps_before)
