"""`evo serve`: the report over HTTP, renewed as the run goes on, for this machine alone."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import browser
import pytest
from browser import Browser
from made_runs import made_run

from commands import Evo
from evo.evolution.journal import Journal
from evo.report.serve import Server, serving


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run written by hand, with one of its files."""
    folder = made_run(tmp_path_factory.mktemp("runs") / "run")
    (folder / "gen_0000").mkdir()
    (folder / "gen_0000" / "variant_00.yaml").write_text("evo: 1\n")
    return folder


@pytest.fixture
def server(run: Path) -> Iterator[Server]:
    """A server of it, on a port that was free."""
    with serving(run, 0) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server: Server, path: str = "/", **heads: str) -> tuple[int, str, str]:
    """Status, ETag and text of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port)) as line:
        line.request("GET", path, headers={name.replace("_", "-"): value for name, value in heads.items()})
        answer = line.getresponse()
        return answer.status, answer.headers.get("ETag", ""), answer.read().decode()


def test_the_page_is_made_again_when_the_run_went_on(server: Server, run: Path) -> None:
    """Whoever has the page as it stands is told so; a run that went on has another page."""
    status, state, text = ask(server)
    assert (status, "0002/00" in text, "fetch(" in text) == (200, True, True)
    assert ask(server, If_None_Match=state) == (304, "", "")
    server.pages._not_before = 0.0
    with closing(Journal(run / "journal.sqlite")) as journal:
        journal.set_fact("warnings", ["the corpus is small"])
    status, other, text = ask(server, If_None_Match=state)
    assert (status, other != state) == (200, True)
    assert "the corpus is small" in text


def test_nothing_but_pages_and_variants_is_given(server: Server) -> None:
    """No other file of the run or of the machine, and nothing to who asks by another name."""
    assert ask(server, "/gen_0000/variant_00.yaml")[::2] == (200, "evo: 1\n")
    for path in (
        "/journal.sqlite",
        "/run.yaml",
        "/gen_0000/../run.yaml",
        "/../run/run.yaml",
        "//etc/passwd",
        "/gen_0009/x",
    ):
        assert ask(server, path)[0] == 404, path
    assert ask(server, Host="evil.example")[0] == 403
    assert server.server_address[0] == "127.0.0.1"


def test_faults_are_said_before_it_listens(run: Path, tmp_path: Path, server: Server, evo: Evo) -> None:
    """No run is EVO600, a port that is taken EVO009."""
    assert "EVO600" in evo("serve", tmp_path).err
    assert "EVO009" in evo("serve", run, "--port", server.server_port).err


@pytest.mark.slow
def test_it_ends_at_an_interrupt(run: Path) -> None:
    """Ctrl-C ends it with status 0 and no traceback, pressed twice as well."""
    command = [sys.executable, "-m", "evo", "serve", str(run), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert re.match(r"http://127\.0\.0\.1:\d+/ shows ", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert [process.stdout.readline() for _ in range(2)] == ["\n", "ended\n"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
@pytest.mark.skipif(browser.found() is None, reason="there is no Chromium on this machine")
def test_an_open_page_renews_itself(server: Server, run: Path) -> None:
    """What was sorted and filtered stays so, and a server that has gone is said to have."""
    with Browser() as one:
        one.open(server.address)
        one.click("[data-variants] th:nth-child(3) button")
        server.pages._not_before = 0.0
        with closing(Journal(run / "journal.sqlite")) as journal:
            journal.set_fact("warnings", ["renewed"])
        one.wait("document.querySelector('header').textContent.includes('renewed')")
        assert one.value("!!document.querySelector('[data-variants] [aria-sort=ascending]')")
        assert one.complaints == []
        server.shutdown()
        server.server_close()
        one.wait("document.getElementById('said').textContent.includes('has stopped')")
