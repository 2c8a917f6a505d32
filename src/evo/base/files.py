"""Files that are either the old ones or the new ones, never halves."""

from __future__ import annotations

import errno
import glob
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from evo.base.diagnostics import Diagnostic, DiagnosticError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` so that a reader, or a crash at any moment, sees the old file or the whole new one.

    Of a link the file that it leads to is written; a file keeps its mode, and one without permission to write is
    refused (PermissionError), whoever asks.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # a device or a pipe, never replaced
        return
    mode = _mode(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode(path: Path) -> int:
    """The mode of a file that is to be written anew."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o644
    if not mode & 0o222:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return mode


def require_writable(path: Path) -> None:
    """Raise OSError unless `write_atomic` could write a file there; leaves nothing, and removes what it left half."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for half in path.parent.glob(f".{glob.escape(path.name)}.*"):
            half.unlink(missing_ok=True)
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.").close()
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def held(folder: Path) -> Generator[None]:
    """Inside the block no other process that asks holds this folder; a process that dies lets go. POSIX only.

    The folder is made if it is missing, and nothing is left in it. Where a file system cannot lock folders, none is.

    Raises:
        DiagnosticError: another process holds it (EVO604).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"another process is writing into {folder}"
                help = "wait for it, or name another folder"
                raise DiagnosticError([Diagnostic("EVO604", message, None, help)]) from None
        yield
    finally:
        os.close(handle)
