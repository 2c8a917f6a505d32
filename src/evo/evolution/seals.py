"""Seals: a digest beside every row of a journal, so that a changed bit, a lost row or an edit is noticed at opening."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from typing import Any

Row = tuple[Any, ...]

KEYS = {
    "candidates": 1, "trials": 3, "evaluations": 3, "scores": 4, "placements": 2, "generations": 1, "facts": 1,
    "timings": 3,
}  # fmt: skip
"""The tables, with how many of their first columns name a row."""


def insert(db: sqlite3.Connection, table: str, rows: Iterable[Row], *, replace: bool = False) -> None:
    """Insert rows with their seals, inside the caller's transaction."""
    held = list(rows)
    if not held:
        return
    verb = "INSERT OR REPLACE" if replace else "INSERT"
    db.executemany(f"{verb} INTO {table} VALUES ({','.join('?' * len(held[0]))})", held)
    sealed = [(table, _name(table, row), _digest(row)) for row in held]
    db.executemany("INSERT OR REPLACE INTO seals VALUES (?,?,?)", sealed)


def delete(db: sqlite3.Connection, table: str, *key: Any) -> None:
    """Delete the rows whose key starts so, with their seals, inside the caller's transaction."""
    rows = [row for row in db.execute(f"SELECT * FROM {table}") if row[: len(key)] == key]
    for row in rows:
        db.execute("DELETE FROM seals WHERE place = ? AND row = ?", (table, _name(table, row)))
    names = [column[1] for column in db.execute(f"PRAGMA table_info({table})")][: len(key)]
    db.execute(f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in names)}", key)


def broken(db: sqlite3.Connection) -> str | None:
    """The first row that is not as it was written, in words; None where all are."""
    for table in KEYS:
        seals = dict(db.execute("SELECT row, digest FROM seals WHERE place = ?", (table,)))
        for row in db.execute(f"SELECT * FROM {table}"):
            name = _name(table, row)
            if seals.pop(name, None) != _digest(row):
                return f"row {name} of its table '{table}' is not as it was written"
        if seals:
            return f"row {min(seals)} of its table '{table}' is gone"
    return None


def _name(table: str, row: Row) -> str:
    return "/".join(map(str, row[: KEYS[table]]))


def _digest(row: Row) -> str:
    return hashlib.blake2b(b"".join(map(_sealed, row)), digest_size=12).hexdigest()


def _sealed(value: Any) -> bytes:
    """A value with its type and length; numbers as SQLite gives them back: columns of reals turn integers to floats."""
    if isinstance(value, str):
        data = value.encode(errors="surrogatepass")
        return b"s%d:%b" % (len(data), data)
    if isinstance(value, bytes):
        return b"b%d:%b" % (len(value), value)
    number = "" if value is None else float(value).hex()
    return f"n{len(number)}:{number}".encode()
