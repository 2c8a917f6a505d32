"""Reading and writing YAML 1.2."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evo.base.diagnostics import DiagnosticError
from evo.dsl.yaml import read, read_all, write
from evo.dsl.yaml.writer import number

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False) | TEXT
DATA = st.recursive(SCALARS, lambda x: st.lists(x, max_size=4) | st.dictionaries(TEXT, x, max_size=4), max_leaves=12)


@given(DATA)
@example({"a": {"b": [{"c": "x" * 200, "d": [[], {}]}]}})
@example("\ufeff\x85\u2028\U0001f600\x7f'\"\\")
@settings(max_examples=150)
def test_what_is_written_reads_back(data: object):
    """read(write(data)) is data: value for value, type for type, key order included."""
    assert repr(read(write(data)).plain()) == repr(data)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("on", "on"), ("no", "no"), ("012", 12), ("0o14", 12), ("0x1F", 31), ("1_000", "1_000"),
        ("~", None), ("", None), ("Null", None), ("TRUE", True), ("+1", 1), (".5", 0.5), ("5.", 5.0), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"), ("'1'", "1"), ("! 1", "1"),
        ("-.INF", -math.inf), ("1e999", math.inf), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: object):
    """Numbers, booleans and nulls of the core schema, and nothing from YAML 1.1."""
    assert read(f"a: {text}").plain() == {"a": value}
    assert type(read(f"a: {text}").plain()["a"]) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.001, "1e-3"), (3.0, "3.0"), (0.05, "0.05"), (1e22, "1e22"), (2.67, "2.67"), (1.5e-7, "1.5e-7"), (0.0, "0.0")],
)
def test_numbers_have_one_spelling(value: float, text: str):
    """The shortest that people like to read."""
    assert number(value) == text


@given(st.floats(allow_nan=False))
def test_every_float_reads_back(value: float):
    """To the last bit."""
    assert read(f"a: {number(value)}").plain() == {"a": value}


def test_duplicate_keys_do_not_stop_the_reading():
    """All of them are found, and what the first ones say is kept."""
    node, duplicates = read_all("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert node.plain() == {"a": 1, "b": {"c": 1}}
    assert [fault.message for fault in duplicates] == ["duplicate key 'a'", "duplicate key 'c'"]


def test_values_know_their_place():
    """Values, keys, list entries, and the nearest ancestor of what is not there."""
    node = read("a:\n  - b: 1\n  - 22\n")
    for path, place in (
        (("a", 0, "b"), (2, 8, 1)), (("a", 1), (3, 5, 2)), (("a", 0, "x"), (2, 5, 1)),
        ((), (1, 1, 1)), (("z", "y"), (1, 1, 1)),
    ):  # fmt: skip
        span = node.at(path)
        assert span is not None
        assert (span.line, span.column, span.length) == place
    key = node.key_at(("a", 0, "b"))
    assert key is not None
    assert (key.line, key.column) == (2, 5)


def test_aliases_repeat_a_value():
    """An anchor's value stands wherever its alias does."""
    assert read("a: &x {b: 1}\nc: [*x, *x]").plain() == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}


def test_a_bomb_is_refused_before_it_grows():
    """Nine levels of nine aliases would be a billion values."""
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    with pytest.raises(DiagnosticError, match="EVO103"):
        read("a0: &a0 [x]\n" + levels)


@pytest.mark.parametrize("text", ["a?b", "å?Ð", "why?", "?", "a ? b", "x:y", "a: b", "a #b", "-", "- a", "1?"])
def test_text_with_marks_survives_flow_and_block(text: str):
    """Text that holds YAML's marks is read back as it was, inside brackets and outside."""
    data = {"kind": text, "items": [text, {"kind": "k", "name": text}]}
    assert read(write(data)).plain() == data
