"""What a document extends and defines, and what the command line sets: one document, each value with its place."""

from pathlib import Path

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.dsl.canonical import to_data
from evo.dsl.document import Document, load, parse
from evo.dsl.format import formatted
from evo.dsl.index import KINDS, kind_class
from evo.dsl.spec import Spec, spec_fields

BASE = """\
evo: 1
name: base
organism:
  width: 64
  stages:
    - {name: lower, repeat: 2, mix: {kind: attention, heads: 4, kv_heads: 2}}
    - {name: upper, mix: {parallel: [{kind: attention, heads: 2}, {kind: convolution, size: 3}]}}
train: {steps: 80, batch: 4}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The document that others extend."""
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def extended(base: Path, text: str) -> Document:
    """The document of a file beside the base."""
    path = base.with_name("own.yaml")
    path.write_text(f"extends: base.yaml\n{text}")
    return load(path).document


def changed(old: str, new: str) -> Document:
    """The base with a part of its text replaced."""
    assert old in BASE
    return parse(BASE.replace(old, new)).document


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("train: {steps: 200}", "steps: 80", "steps: 200"),
        ("organism: {stages: {lower: {mix: {heads: 8}}}}", "heads: 4", "heads: 8"),
        (
            "organism: {stages: {lower: {mix: {kind: recurrence, heads: 2}}}}",
            "{kind: attention, heads: 4, kv_heads: 2}",
            "{kind: recurrence, heads: 2}",
        ),
        (
            "organism: {stages: {lower: {mix: {parallel: [{kind: convolution}, {kind: convolution}]}}}}",
            "{kind: attention, heads: 4, kv_heads: 2}",
            "{parallel: [{kind: convolution}, {kind: convolution}]}",
        ),
        (
            "organism: {stages: {upper: {mix: {kind: convolution, size: 5}}}}",
            "{parallel: [{kind: attention, heads: 2}, {kind: convolution, size: 3}]}",
            "{kind: convolution, size: 5}",
        ),
        (
            "organism: {stages: {lower: null}}",
            "    - {name: lower, repeat: 2, mix: {kind: attention, heads: 4, kv_heads: 2}}\n",
            "",
        ),
        ("train: {clip: null}", "batch: 4", "batch: 4, clip: null"),
    ],
)
def test_what_is_written_takes_the_place_of_what_is_extended(base: Path, text: str, old: str, new: str):
    """Keys are merged, another kind replaces the whole mapping, stages are changed by name, null is a value."""
    assert extended(base, text) == changed(old, new)


def test_a_list_replaces_a_list(base: Path):
    """Stages that are written as a list stand alone."""
    stages = extended(base, "organism: {stages: [{name: only, mix: {kind: convolution}}]}").organism.stages
    assert [stage.name for stage in stages] == ["only"]


def test_a_chain_of_documents(base: Path):
    """What extends may be extended; the last word counts."""
    base.with_name("middle.yaml").write_text("extends: base.yaml\ntrain: {steps: 100, batch: 8}\n")
    base.with_name("last.yaml").write_text("extends: middle.yaml\ntrain: {batch: 2}\n")
    train = load(base.with_name("last.yaml")).document.train
    assert (train.steps, train.batch) == (100, 2)
    base.write_text(f"extends: last.yaml\n{BASE}")
    with pytest.raises(DiagnosticError, match="EVO114 the document extends itself"):
        load(base)


def test_a_fault_is_shown_where_it_was_written(base: Path):
    """A wrong value of the extended file is shown in that file, with its line; one of an override in the override."""
    base.write_text(BASE.replace("batch: 4", "batch: four"))
    with pytest.raises(DiagnosticError) as caught:
        extended(base, "name: own")
    (fault,) = caught.value.diagnostics
    assert fault.span is not None
    assert (fault.span.file, fault.span.line) == (str(base), 8)
    assert "batch: four" in caught.value.source_of(fault)
    with pytest.raises(DiagnosticError) as caught:
        load(base, ["train.batch=4", "train.steps=many"])
    (fault,) = caught.value.diagnostics
    assert fault.span is not None
    assert (fault.span.file, fault.span.line, fault.span.column) == ("--set", 2, 13)


def test_paths_start_at_the_file_that_wrote_them(base: Path, tmp_path: Path):
    """A corpus that another folder's document names is named from here."""
    base.write_text(BASE.replace("batch: 4", "batch: 4, task: {kind: bytes, corpus: [mine.txt, python]}"))
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "own.yaml").write_text("extends: ../base.yaml\n")
    assert to_data(load(inner / "own.yaml").document.train)["task"]["corpus"] == ["../mine.txt", "python"]


def test_a_definition_stands_wherever_it_is_used(base: Path):
    """With changes beside it, inside other definitions, and for numbers; the extended file's can be changed."""
    text = BASE.replace("{kind: attention, heads: 4, kv_heads: 2}", "{use: near, kv_heads: {use: few}}")
    base.write_text(f"{text}define: {{near: {{kind: attention, heads: 4}}, few: 2}}\n")
    assert load(base).document == parse(BASE).document
    assert extended(base, "define: {few: 4}") == changed("kv_heads: 2", "kv_heads: 4")
    base.write_text(f"{text}define: {{near: {{use: near}}, few: 2}}\n")
    with pytest.raises(DiagnosticError, match="EVO116 the definition 'near' stands for itself"):
        load(base)


def test_definitions_cannot_nest_without_end():
    """Each names the next one, or holds it far down: what would be too deep written out is too deep as well."""
    text = BASE.replace("batch: 4", "batch: {use: d0}")
    chain = "".join(f"  d{i}: {{use: d{i + 1}}}\n" for i in range(3000))
    with pytest.raises(DiagnosticError, match="EVO104"):
        parse(f"{text}define:\n{chain}  d3000: 4\n")
    deep = "".join(f"  d{i}: {'[' * 30}{{use: d{i + 1}}}{']' * 30}\n" for i in range(60))
    with pytest.raises(DiagnosticError, match="EVO104"):
        parse(f"{text}define:\n{deep}  d60: 4\n")


@pytest.mark.parametrize("path", ['"a\\0b"', '"~nobody-of-this-name/a.yaml"', '"-"', "[base.yaml]", '""', "own.yaml"])
def test_what_is_no_path_of_a_document_cannot_be_extended(base: Path, path: str):
    """A NUL, a home that nobody has, standard input, a folder, itself: told where it is written."""
    own = base.with_name("own.yaml")
    own.write_text(f"extends: {path}\n")
    with pytest.raises(DiagnosticError) as caught:
        load(own)
    (fault,) = caught.value.diagnostics
    assert fault.code == "EVO114"
    assert fault.span is not None
    assert (fault.span.line, fault.span.column) == (1, 10)


def test_definitions_cannot_explode():
    """A few lines that stand for a billion values are refused."""
    rows = "".join(f"  d{i}: {{a: {{use: d{i + 1}}}, b: {{use: d{i + 1}}}}}\n" for i in range(15))
    text = BASE.replace("batch: 4", "batch: {use: d0}") + f"define:\n{rows}  d15: 1\n"
    with pytest.raises(DiagnosticError, match="EVO103"):
        parse(text)


@pytest.mark.parametrize(
    ("override", "old", "new"),
    [
        ("train.steps=200", "steps: 80", "steps: 200"),
        ("organism.stages.lower.mix.heads=8", "heads: 4", "heads: 8"),
        ("organism.stages.0.repeat=3", "repeat: 2", "repeat: 3"),
        ("organism.stages.upper.mix.parallel.1.size=5", "size: 3", "size: 5"),
        ("train.optimizer=lion", "batch: 4", "batch: 4, optimizer: {kind: lion}"),
        ("train.optimizer.lr=1e-3", "batch: 4", "batch: 4, optimizer: {kind: adamw, lr: 1e-3}"),
        ("train.clip=null", "batch: 4", "batch: 4, clip: null"),
        ("organism.norm={kind: layer, eps: 1e-6}", "width: 64", "width: 64\n  norm: {kind: layer, eps: 1e-6}"),
        ("evolve.fitness.task=0.5", "train:", "evolve: {fitness: {task: 0.5}}\ntrain:"),
        ("evolve.emitters=random", "train:", "evolve: {emitters: {kind: random}}\ntrain:"),
        ("name=other", "name: base", "name: other"),
    ],
)
def test_an_override_is_as_if_it_stood_there(override: str, old: str, new: str):
    """Keys, names of stages, indices; a kind alone; a path into what is left out."""
    assert parse(BASE, "base.yaml", [override]).document == changed(old, new)


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("train.steps", "EVO112"),
        ("=3", "EVO112"),
        ("train.steps=", "EVO112"),
        ("train.steps.many=3", "EVO113"),
        ("organism.stages.uper.repeat=2", "EVO113"),
        ("organism.stages.2.repeat=2", "EVO113"),
        ("train.stepz=3", "EVO200"),
        ("train.steps={a: ", "EVO100"),
        ("train.optimizer=sgd", "EVO210"),
        ("train." * 3000 + "steps=3", "EVO104"),
    ],
)
def test_a_wrong_override_is_a_diagnostic_in_its_text(override: str, code: str):
    """Never a traceback; the place is in the override."""
    with pytest.raises(DiagnosticError) as caught:
        parse(BASE, "base.yaml", [override])
    (fault,) = caught.value.diagnostics
    assert fault.code == code
    assert fault.span is not None
    assert fault.span.file == "--set"


def test_a_default_is_its_kind_and_nothing_else():
    """An override goes into a default by writing its kind alone, so no default of a role may hold more."""
    classes = [kind_class(role, kind) for role in KINDS for kind in KINDS[role]]
    nested = [field.nested for cls in [Document, *classes] for field in spec_fields(cls).values() if field.nested]
    for cls in [Document, *classes, *nested]:
        for field in spec_fields(cls).values():
            if not field.info.is_required() and isinstance(field.default, Spec):
                assert field.default == type(field.default)()


def test_fmt_orders_what_extends_and_leaves_nothing_out(base: Path):
    """Its own text alone is put in order; formatting twice changes nothing, and neither does it change the document."""
    own = base.with_name("own.yaml")
    own.write_text(
        "# mine\ntrain: {batch: 16, steps: 80}\ndefine: {near: {heads: 2, kind: attention}}\nextends: base.yaml\n"
        "organism: {stages: {lower: {mix: {use: near}}}}\n"
    )
    before = load(own)
    assert formatted(before) == (
        "# mine\nextends: base.yaml\ndefine: {near: {kind: attention, heads: 2}}\n"
        "organism: {stages: {lower: {mix: {use: near}}}}\ntrain: {steps: 80, batch: 16}\n"
    )
    own.write_text(formatted(before))
    assert load(own).document == before.document
    assert formatted(load(own)) == own.read_text()
