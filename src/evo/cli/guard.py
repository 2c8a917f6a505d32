"""The last guard: whatever a command raised, as diagnostics and an exit status. No traceback reaches a user unasked."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from pathlib import Path

import evo
from evo.base.diagnostics import Diagnostic, DiagnosticError, Span
from evo.base.memory import is_out_of_memory

INPUT, OURS = 1, 70
"""Exit statuses: the input or its surroundings are at fault; evo itself is."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PACKAGE = Path(evo.__file__).parent


def judged(error: Exception, *, debug: bool = False) -> tuple[DiagnosticError, int]:
    """What stopped a command as diagnostics, and the exit status. `debug` shows the traceback of a fault of evo's."""
    if isinstance(error, DiagnosticError):
        return error, INPUT
    if isinstance(error, OSError):
        return DiagnosticError([os_fault(error)]), INPUT
    if is_out_of_memory(error):
        message = f"not enough memory: {_first_line(error) or 'an allocation failed'}"
        help = "a smaller batch, context or width needs less; --workers 1 evaluates one candidate at a time"
        return DiagnosticError([Diagnostic("EVO008", message, None, help)]), INPUT
    if (fault := _of_sqlite(error)) is not None:
        return fault, INPUT
    return DiagnosticError([_own_fault(error, debug)]), OURS


def os_fault(error: OSError) -> Diagnostic:
    """A failure of the file system: no room (EVO007), or anything else (EVO004)."""
    name = None if error.filename is None else os.fsdecode(error.filename)
    span = None if name is None else Span(name, 1, 1)
    reason = error.strerror or str(error) or type(error).__name__
    message = reason if name is None else f"{name}: {reason}"
    if error.errno in _NO_ROOM:
        help = "make room and run it again (a search goes on with `evo resume DIR`); what was written before is whole"
        return Diagnostic("EVO007", message, span, help)
    return Diagnostic("EVO004", message, span)


def _of_sqlite(error: Exception) -> DiagnosticError | None:
    """What a journal that is being read says, if it is a journal that speaks: most commands never import SQLite."""
    if "sqlite3" not in sys.modules:
        return None
    import sqlite3

    from evo.evolution.transaction import journal_fault

    return journal_fault("the journal", error) if isinstance(error, sqlite3.Error) else None


def _own_fault(error: Exception, debug: bool) -> Diagnostic:
    message = f"evo itself failed: {type(error).__name__}: {_first_line(error)}".rstrip(": ") + _where(error)
    text = "".join(traceback.format_exception(error))
    if debug:
        sys.stderr.write(text)
        return Diagnostic("EVO006", message, None, "please report it with the command line and the document")
    kept = _kept(text)
    told = f"the traceback is in {kept}" if kept else "`evo --debug ...` shows the traceback"
    return Diagnostic("EVO006", message, None, f"{told}; please report it with the command line and the document")


def _kept(text: str) -> str | None:
    """The file that holds a traceback from now on; None where none can be written."""
    command = " ".join(map(ascii, sys.argv))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="evo-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(f"evo {evo.__version__}, python {sys.version}\n{command}\n\n")
            file.write(text.encode("utf-8", "backslashreplace").decode())
    except OSError:
        return None
    return file.name


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), "")
    return line if len(line) <= 200 else f"{line[:197]}..."


def _where(error: Exception) -> str:
    """The innermost line of evo that the error passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_ours(frame.filename)]
    if not frames:
        return ""
    return f" (at {Path(frames[-1].filename).relative_to(_PACKAGE).as_posix()}:{frames[-1].lineno})"


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(_PACKAGE)
