"""No input ends in a traceback: whatever a file holds, the answer is diagnostics with a place in it."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.base.diagnostics import Diagnostic, DiagnosticError, render
from evo.compiler.check import check
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash, to_yaml
from evo.dsl.document import examine, load, parse
from evo.dsl.format import formatted, is_formatted, lost_comments
from evo.dsl.patch import apply_data, patch_from_node
from evo.dsl.yaml import node_of, read, write
from strategies import document_data

HEAD = "evo: 1\norganism: {width: 64, stages: [{name: a, mix: {kind: attention, heads: 2}}]}\n"
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def faults(text: str) -> tuple[Diagnostic, ...]:
    """What is wrong with a text; goes all the way to a plan where nothing is."""
    found = examine(text, "f.yaml")
    part, all_faults = found.loaded, found.faults
    if part is not None:
        all_faults += check(part)
    try:
        loaded = parse(text, "f.yaml")
        found = tuple(check(loaded))
        if not any(fault.severity == "error" for fault in found):
            resolve(loaded.document.organism)
        content_hash(loaded.document)
        lost_comments(loaded)
        is_formatted(loaded)
        assert to_yaml(parse(formatted(loaded)).document) == to_yaml(loaded.document)
    except DiagnosticError as error:
        found = error.diagnostics
        assert found
    assert set(found) <= set(all_faults)
    for fault in found:
        assert fault.span is not None
        assert (
            fault.span.line
            <= text.count("\n") + text.count("\r") + 10**6 * any(c in text for c in "\x85\u2028\u2029") + 1
        )
        assert render(fault, text).startswith(f"f.yaml:{fault.span.line}:{fault.span.column}: EVO")
    return found


@given(st.text(max_size=200))
@settings(max_examples=60)
def test_any_text(text: str):
    """Random text is refused with a place, or is a document."""
    faults(text)


@given(st.text(st.sampled_from("{}[]:,-?&*!|>'\"%@`# \n\tab1."), max_size=60))
@settings(max_examples=120)
def test_any_yaml_like_text(text: str):
    """Text made of YAML's own characters reaches deep into the reader."""
    faults(text)


@given(st.sampled_from(EXAMPLES), st.data())
@settings(max_examples=25)
def test_any_damaged_document(path: Path, data: st.DataObject):
    """A document with a stretch replaced by anything."""
    text = path.read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    faults(text[:start] + data.draw(st.text(max_size=8)) + text[end:])


@given(document_data(), st.data())
@settings(max_examples=25)
def test_any_value_in_any_place(document: dict[str, object], data: st.DataObject):
    """A document with one value, anywhere, replaced by any other."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    anything = st.recursive(
        scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3)
    )
    places = list(_places(document))
    container, key = data.draw(st.sampled_from(places))
    container[key] = data.draw(anything)
    faults(write(document))


@given(st.binary(max_size=200))
@settings(max_examples=30)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    """Binary junk in a file."""
    path = tmp_path_factory.mktemp("junk") / "f.yaml"
    path.write_bytes(content)
    with pytest.raises(DiagnosticError) as caught:
        load(path)
    assert all(fault.span is not None for fault in caught.value.diagnostics)


@given(document_data(), st.data())
@settings(max_examples=25)
def test_any_patch(document: dict[str, object], data: st.DataObject):
    """Edits of any path with any value fit or are refused with a place in the patch."""
    step = st.sampled_from(["organism", "stages", "lower", "mix", "0", "1", "width", "kind", "", "²", "x"])
    value = st.none() | st.integers() | st.text(max_size=3) | st.just({"name": "lower"}) | st.just([1])
    edit = st.fixed_dictionaries(
        {"path": st.lists(step, max_size=5).map(".".join)},
        optional={"old": value, "new": value, "at": st.integers(-1, 3), "more": value},
    )
    edits = data.draw(st.lists(edit, min_size=1, max_size=3))
    text = write({"evo_patch": 1, "edits": edits})
    refused: tuple[Diagnostic, ...] = ()
    try:
        result = apply_data(patch_from_node(read(text), text), document)
        parse(write(result))
    except DiagnosticError as error:
        refused = error.diagnostics
    assert all(fault.span is not None for fault in refused)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: &a [*a, *a]", "EVO103"),
        (
            "a: &a [1, 1]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '*a'] * 9)}]\n" for i in range(9)),
            "EVO103",
        ),
        ("[" * 5000, "EVO104"),
        ("- " * 5000, "EVO104"),
        ("a:\n\tb: 1", "EVO102"),
        ("a: \x00", "EVO109"),
        ('a: "\\ud800"', "EVO109"),
        ('"\\udfff": 1', "EVO109"),
        ("\ud800: 1", "EVO109"),
        (HEAD + "train: {steps: " + "9" * 5000 + "}", "EVO202"),
        (HEAD + "train: {steps: " + "9" * 399 + "}", "EVO203"),
        (HEAD + "train: {seed: 0x" + "f" * 390 + "}", "EVO203"),
        (HEAD + "train: {optimizer: {kind: adamw, lr: 1e999}}", "EVO203"),
        (HEAD + "train: {optimizer: {kind: adamw, lr: .inf}}", "EVO203"),
        (HEAD + "train: {optimizer: {kind: adamw, lr: .nan}}", "EVO203"),
        (HEAD + "train: {optimizer: {kind: adamw, lr: " + "9" * 399 + "}}", "EVO202"),
        (HEAD + "ключ: 1", "EVO200"),
        (HEAD + "name: ''", "EVO203"),
        (HEAD.replace("kind: attention", "kind: [attention]"), "EVO210"),
        (HEAD.replace("{kind: attention, heads: 2}", "[[a]]"), "EVO202"),
        (HEAD.replace("name: a", "name: a, from: []"), "EVO203"),
    ],
)
def test_what_breaks_readers(text: str, code: str):
    """The usual bombs and traps, each with its code."""
    assert code in {fault.code for fault in faults(text)}


def test_byte_order_marks_and_line_ends_make_no_difference(tmp_path: Path):
    """A file from another system is the same document."""
    for content in (HEAD, HEAD.replace("\n", "\r\n"), "\ufeff" + HEAD):
        (tmp_path / "f.yaml").write_bytes(content.encode())
        assert content_hash(load(tmp_path / "f.yaml").document) == content_hash(parse(HEAD).document)


def test_a_huge_file_is_refused_at_once(tmp_path: Path):
    """100 MB are not read, let alone parsed."""
    path = tmp_path / "f.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    started = time.perf_counter()
    with pytest.raises(DiagnosticError, match="EVO002"):
        load(path)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("name", ["missing.yaml", "folder", "nul\0byte", "x" * 5000])
def test_what_cannot_be_opened(tmp_path: Path, name: str):
    """No file, a folder, an impossible name."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiagnosticError, match="EVO001"):
        load(tmp_path / name)


def test_pseudopods_cannot_multiply_without_bound():
    """Sixteen names that each hold sixteen of the next, or a chain of thousands, are refused at once."""
    tower = {f"p{i}": {"parallel": [f"p{i + 1}"] * 16} for i in range(15)} | {"p15": {"kind": "convolution"}}
    chain = {f"p{i}": {"parallel": [f"p{i + 1}", {"kind": "convolution"}]} for i in range(300)}
    for pseudopods in (tower, {**chain, "p300": {"kind": "convolution"}}):
        organism = {"width": 64, "pseudopods": pseudopods, "stages": [{"name": "a", "mix": "p0"}]}
        started = time.perf_counter()
        assert "EVO322" in {fault.code for fault in faults(write({"evo": 1, "organism": organism}))}
        assert time.perf_counter() - started < 10


def test_plain_data_and_nodes_are_the_same_thing():
    """node_of is the inverse of plain."""
    data = {"a": [1, {"b": None}], "c": "x"}
    assert node_of(data).plain() == data


def _places(data: object):
    if isinstance(data, dict):
        for key in data:
            yield data, key
            yield from _places(data[key])
    elif isinstance(data, list):
        for index in range(len(data)):
            yield data, index
            yield from _places(data[index])
