"""The report of a run over HTTP, made anew whenever the run went on: for a browser on this machine and nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.rundirs import GENERATION, VARIANT
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.report.html import page
from evo.report.search import search_report

HOST = "127.0.0.1"
REST = 10
"""A page is made no more often than it takes so many times as long: the run has the machine."""


@dataclass(frozen=True)
class Edition:
    """A page, and the name of the state of the run that it tells."""

    state: str
    html: bytes


class Pages:
    """The pages of a run: the last one is kept as long as the run has not gone on."""

    def __init__(self, folder: Path) -> None:
        self._directory = RunDirectory(folder)
        self._lock = threading.Lock()
        self._last: Edition | None = None
        self._not_before = 0.0

    def current(self) -> Edition:
        """The page of the run as it stands.

        Raises:
            DiagnosticError: there is no run, or its journal cannot be read (EVO600, EVO605).
        """
        with self._lock:
            state = self._state()
            is_due = time.monotonic() >= self._not_before
            if self._last is None or (self._last.state != state and is_due):
                began = time.monotonic()
                self._last = Edition(state, self._made(state))
                self._not_before = time.monotonic() + REST * (time.monotonic() - began)
            return self._last

    def _state(self) -> str:
        try:
            found = self._directory.journal_file.stat()
        except OSError:
            return '"none"'
        return f'"{found.st_mtime_ns}-{found.st_size}"'

    def _made(self, state: str) -> bytes:
        settings = self._directory.load()
        with closing(Journal.copied(self._directory.journal_file)) as journal:
            return page(search_report(self._directory, settings, journal), live=state).encode()

    def document(self, path: str) -> bytes | None:
        """The YAML of a variant by its place below the run, or None for anything else."""
        folder, _, name = path.partition("/")
        if not GENERATION.fullmatch(folder) or not VARIANT.fullmatch(name) or not name.endswith(".yaml"):
            return None
        file = self._directory.path / folder / name
        return file.read_bytes() if file.is_file() else None


class Server(ThreadingHTTPServer):
    """Serves the pages of one run on this machine."""

    daemon_threads = True

    def __init__(self, pages: Pages, port: int) -> None:
        self.pages = pages
        super().__init__((HOST, port), _Answer)

    @property
    def address(self) -> str:
        """What to open."""
        return f"http://{HOST}:{self.server_port}/"


class _Answer(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride] - who answers for a server is made by it
    server_version, sys_version = "evo", ""

    def do_GET(self) -> None:
        # A page of another site may know our address by a name of its own; what it asks for is not ours to give.
        if self.headers.get("Host") not in {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}:
            self._answer(HTTPStatus.FORBIDDEN, b"ask for 127.0.0.1\n")
            return
        if self.path != "/":
            found = self.server.pages.document(self.path.removeprefix("/"))
            status = HTTPStatus.NOT_FOUND if found is None else HTTPStatus.OK
            self._answer(status, b"there is no such page\n" if found is None else found)
            return
        try:
            edition = self.server.pages.current()
        except DiagnosticError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
            return
        if self.headers.get("If-None-Match") == edition.state:
            self._answer(HTTPStatus.NOT_MODIFIED, b"")
        else:
            self._answer(HTTPStatus.OK, edition.html, "text/html", {"ETag": edition.state})

    def _answer(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain", more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        heads = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
        }
        for name, value in {**heads, "X-Content-Type-Options": "nosniff", **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page asks every two seconds."""


@contextmanager
def serving(folder: Path, port: int) -> Iterator[Server]:
    """A server of a run's report, which has been made once; port 0 takes any that is free.

    Raises:
        DiagnosticError: there is no run, or its journal cannot be read (EVO600, EVO605), or the port is taken (EVO009).
    """
    pages = Pages(folder)
    pages.current()
    try:
        server = Server(pages, port)
    except (OSError, OverflowError) as error:
        help = "--port names another; 0 takes any that is free"
        raise DiagnosticError(
            [Diagnostic("EVO009", f"port {port} cannot be listened on: {error}", None, help)]
        ) from None
    with server:
        yield server
