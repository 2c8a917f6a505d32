"""One transaction of a journal, and what SQLite's errors mean to a user."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from evo.base.diagnostics import Diagnostic, DiagnosticError


class Transaction:
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
