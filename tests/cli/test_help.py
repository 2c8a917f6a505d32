"""What `--help` says of every command and subcommand, at 80 columns."""

import re
from collections.abc import Iterator
from textwrap import indent

import pytest

from evo.cli.app import EXIT_CODES, load
from evo.cli.commands import present
from evo.dsl.evolve import EvolveSpec
from evo.dsl.reference import kind_entry

NOTHING_TOLD = ("null", "{}", "[]")


def pages() -> Iterator[tuple[str, ...]]:
    """The words of every command and subcommand."""
    for name in present():
        yield (name,)
        yield from ((name, inner) for inner in getattr(load(name), "commands", {}))


@pytest.fixture
def page(request: pytest.FixtureRequest, evo, monkeypatch: pytest.MonkeyPatch) -> str:
    """The help of a command on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return evo(*request.param, "--help").out


EVERY = pytest.mark.parametrize("page", list(pages()), ids=" ".join, indirect=True)


@EVERY
def test_exit_codes_stand_at_the_end(page: str):
    """Of subcommands too, in order."""
    codes = EXIT_CODES.replace("\b\n", "").rstrip()
    assert page.rstrip().endswith(indent(codes, "  "))
    numbers = [int(code) for code in re.findall(r"^  (\d+) ", codes, re.MULTILINE)]
    assert numbers == sorted(numbers)


@EVERY
def test_arguments_are_in_capitals(page: str):
    """In the usage and in the list, each once, with the type of one of them."""
    usage = page.partition("\n\n")[0]
    named = re.findall(r"[{\[]([^}\]]+)[}\]]", usage)
    assert [name for name in named if name.lower() == name or "..." in name] == []
    assert "<list[" not in page


@EVERY
def test_no_limit_is_told_that_nobody_reaches(page: str):
    """Those that only keep nonsense out make lines unreadable."""
    assert re.findall(r"<=x<=\d{6,}", page) == []
    assert " range>" not in page


@EVERY
def test_a_line_fits_the_terminal(page: str):
    """Nothing is broken by the terminal."""
    assert max(map(len, page.splitlines())) <= 80


def test_limits_that_may_be_met_are_told(evo):
    """A port is one."""
    assert "0<=x<=65535" in evo("serve", "--help").out


def test_evolve_tells_the_defaults_of_the_document(evo):
    """Each field's own, as `evo explain` writes it, unless that is nothing or what its own fields say."""
    told = [" ".join(option.split()) for option in re.split(r"\n  (?=-)", evo("evolve", "--help").out)]
    for field in kind_entry("evolve", EvolveSpec).fields:
        (option,) = [text for text in told if text.startswith(f"--{field.key.replace('_', '-')} ")]
        shown = field.default not in NOTHING_TOLD
        assert option.endswith(f"[default: {field.default}]") == shown
        assert ("[default" in option) == shown
