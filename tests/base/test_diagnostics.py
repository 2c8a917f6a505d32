"""Diagnostics as people read them."""

import pickle

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span, in_order, render, suggestion

SOURCE = "evo: 1\norganism:\n  widht: 64\n"
FAULT = Diagnostic("EVO200", "unknown key 'widht'", Span("a.yaml", 3, 3, 5), "did you mean 'width'?")


def test_a_diagnostic_shows_place_source_caret_and_help():
    """The text is a good compiler's."""
    assert render(FAULT, SOURCE) == (
        "a.yaml:3:3: EVO200 unknown key 'widht'\n"
        "    2 | organism:\n"
        "    3 |   widht: 64\n"
        "      |   ^~~~~\n"
        "   help: did you mean 'width'?"
    )


def test_help_is_wrapped_where_columns_are_told():
    """Under its beginning, no word torn apart; the words are the same."""
    help = "did you mean `lr`? known keys: " + ", ".join(f"some_key_{n}" for n in range(40))
    told = Diagnostic("EVO200", "unknown", None, help)
    *_, first, second, last = render(told, columns=80).splitlines()
    assert first.startswith(" " * 9 + "some_key_")
    assert second.startswith(" " * 9 + "some_key_")
    assert max(map(len, render(told, columns=80).splitlines())) <= 80
    assert " ".join(render(told, columns=80).split()) == " ".join(render(told).split())
    assert last.endswith("some_key_39")


def test_a_warning_says_so():
    """Warnings are told apart from errors in the text."""
    assert render(Diagnostic("EVO321", "unused", severity="warning")) == "EVO321 warning: unused"


def test_the_caret_stands_under_wide_characters():
    """Columns are those of a terminal, in which some characters take two and some none."""
    *_, caret = render(Diagnostic("EVO200", "x", Span("f", 1, 6)), "名e\u0301: y").splitlines()
    assert caret == "      |      ^"


def test_lines_are_counted_as_yaml_counts_them():
    """A form feed ends no line; a lone carriage return does."""
    assert "    2 | c" in render(Diagnostic("EVO200", "x", Span("f", 2, 1)), "a\x0cb\rc")


def test_control_characters_reach_no_terminal():
    """Nothing in a document, its name or a message can send escape sequences."""
    text = render(Diagnostic("EVO200", "\x1b[31m", Span("\x1b]", 1, 1), "\x07\n"), "\x1b[2J\ud800")
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.count("\n") == 3


def test_a_place_outside_the_source_is_still_named():
    """A span without text, or far to the right, loses its excerpt and not its place."""
    assert render(Diagnostic("EVO200", "x", Span("f", 9, 1)), "a") == "f:9:1: EVO200 x"
    assert "^" not in render(Diagnostic("EVO200", "x", Span("f", 1, 5000)), "a" * 9000)


def test_suggestions_need_a_close_word():
    """Far words are not guessed."""
    assert suggestion("atention", ["attention", "memory"]) == "did you mean 'attention'? "
    assert suggestion("quantum", ["attention", "memory"]) == ""


def test_diagnostics_are_sorted_and_told_once():
    """Aliases lead to the same place twice."""
    earlier = Diagnostic("EVO200", "y", Span("a.yaml", 1, 2))
    other = Diagnostic("EVO200", "y", Span("b.yaml", 1, 2))
    assert in_order([other, FAULT, earlier, FAULT]) == [earlier, FAULT, other]


def test_an_error_finds_the_source_of_each_file():
    """Diagnostics of several files keep their own text."""
    error = DiagnosticError([FAULT], {"a.yaml": SOURCE})
    assert error.source_of(FAULT) == SOURCE
    assert error.source_of(Diagnostic("EVO005", "x")) == ""
    assert DiagnosticError([FAULT], "t").source_of(FAULT) == "t"
    assert str(error) == "EVO200 unknown key 'widht'"


def test_an_error_crosses_processes_whole():
    """Workers send their errors pickled."""
    error = pickle.loads(pickle.dumps(DiagnosticError([FAULT], {"a.yaml": SOURCE})))
    assert (error.diagnostics, error.source, str(error)) == ((FAULT,), {"a.yaml": SOURCE}, f"EVO200 {FAULT.message}")
