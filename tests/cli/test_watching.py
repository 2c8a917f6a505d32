"""What long commands show while they run."""

import io

import pytest
from rich.console import Console
from rich.live import Live
from rich.progress import Progress

from evo.cli import watching
from evo.cli.watching import SearchTable, bar_columns, fitting, headings, training_bar
from evo.evolution.candidate import Candidate
from evo.evolution.trial import Evaluation, Trial
from evo.tasks.bytes.spec import BytesSpec
from evo.training import loop

TRIAL = Trial(Candidate("0000/00", 0, 0, "", ""), 0, 1)
ROW = ("12", "100.0%", "123.456", "0.8980", "2.9183", "0.1000", "17", "3")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_numbers_are_whole_on_a_narrow_terminal(width: int):
    """Columns are left out, never cut: the score stays longest."""
    table = SearchTable(8, 16, BytesSpec.primary)
    out = io.StringIO()
    table.console = Console(file=out, force_terminal=True, width=width, color_system=None)
    table.live = Live(console=table.console, auto_refresh=False)
    table.rows.append(ROW)
    with table:
        table._refresh()
    printed = out.getvalue()
    assert "…" not in printed
    assert "2.9183" in printed
    assert ("0.1000" in printed) == (width >= 80)


def test_all_columns_are_shown_where_there_is_room():
    """A wide terminal loses nothing."""
    widths = [width for _, width in headings(BytesSpec.primary)]
    assert fitting(widths, 200) == list(range(len(ROW)))
    assert fitting(widths, 1) == [4]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120])
def test_the_bar_of_a_training_cuts_no_number(width: int):
    """B18: steps and loss are whole on every terminal from 30 columns on; the rest comes where there is room."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    with Progress(*bar_columns(width), console=console) as bar:
        bar.add_task("train", total=10_000, completed=1250, loss="12.345", speed=123_456.0)
    printed = out.getvalue()
    if width >= 30:
        assert "…" not in printed
        assert "step 1250/10000" in printed
        assert "loss 12.345" in printed
    assert ("123,456 tokens/s" in printed) == (width >= 80)


def test_one_candidate_is_not_called_several(capsys: pytest.CaptureFixture[str]):
    """What is said of a repetition agrees in number."""
    table = SearchTable(1, 2, BytesSpec.primary)
    table.repeated([TRIAL])
    table.repeated([TRIAL, TRIAL])
    one, two = capsys.readouterr().err.splitlines()
    assert one == "generation 0: 1 candidate to try again with another seed"
    assert two == "generation 0: 2 candidates to try again with another seed"


def test_the_start_of_workers_is_not_in_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Workers that took 300 s to start, and a candidate that took 60: two more take 2 minutes, not 12."""
    clock = iter((0.0, 360.0, 360.0))
    monkeypatch.setattr(watching.time, "monotonic", lambda: next(clock))
    table = SearchTable(0, 0, BytesSpec.primary)
    table.pending = 3
    table.evaluated(TRIAL, Evaluation(cause="leak"), 60.0)
    assert capsys.readouterr().err == "0000/00 seed: leak in 60 s; 2.0 min left\n"


def test_the_verdict_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Of six trainings two took 20 s together, so four take 40; the last one leaves nothing to wait for."""
    clock = iter((0.0, 100.0, 120.0, 160.0))
    monkeypatch.setattr(watching.time, "monotonic", lambda: next(clock))
    table = SearchTable(3, 6, BytesSpec.primary)
    table.verdict_began(6)
    table.verdict_trained(2)
    table.verdict_trained(4)
    assert capsys.readouterr().err.splitlines()[1:] == ["verdict: 2 of 6 trained; 40 s left", "verdict: 6 of 6 trained"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_scoring_is_told_and_a_resumed_bar_starts_where_it_goes_on(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Before the first step no loss is told; after the last one, what the wait is for."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=100, color_system=None)
    monkeypatch.setattr(watching, "Console", lambda **_: console)
    with training_bar(40, begun=30, quiet=False) as note:
        note(loop.Progress(39, 40, 2.5, 100, 1.0))
        assert watching.SCORING not in out.getvalue() + capsys.readouterr().err
        note(loop.Progress(40, 40, 2.5, 100, 1.0))
        assert watching.SCORING in out.getvalue() + capsys.readouterr().err
    assert "nan" not in out.getvalue()
    assert ("step 30/40" in out.getvalue()) == is_terminal


def test_nothing_is_told_where_a_program_reads(capsys: pytest.CaptureFixture[str]):
    """With --json."""
    with training_bar(1, begun=0, quiet=True) as note:
        note(loop.Progress(1, 1, 2.5, 100, 1.0))
    assert capsys.readouterr() == ("", "")
