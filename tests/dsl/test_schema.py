"""The JSON Schemas agree with the language."""

import json
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evo.base.codes import CODES
from evo.base.diagnostics import DiagnosticError
from evo.blocks.feedforward.spec import DenseSpec
from evo.blocks.norm.spec import LayerNormSpec
from evo.dsl import index
from evo.dsl.build import Builder
from evo.dsl.canonical import to_data
from evo.dsl.describe import field_docs, summary
from evo.dsl.document import Document, from_data, load
from evo.dsl.patch import diff
from evo.dsl.schema import organism_schema, patch_schema
from evo.dsl.spec import DEFAULT, ListOf, RoleOf, Spec, spec_fields
from evo.dsl.yaml import read, write
from strategies import document_data, documents

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parents[2]
SCHEMA = organism_schema()
ORGANISM = jsonschema.Draft202012Validator(SCHEMA)
PATCH = jsonschema.Draft202012Validator(patch_schema())
FEW = settings(max_examples=12)


def spec_classes() -> list[type[Spec]]:
    """Every spec class that a document can hold."""
    of_roles = [index.kind_class(role, kind) for role in index.KINDS for kind in index.kinds(role)]
    nested = [shape.nested for cls in [Document, *of_roles] for shape in spec_fields(cls).values() if shape.nested]
    return [Document, *of_roles, *nested]


def test_the_schemas_are_schemas():
    """Both obey draft 2020-12 and are plain JSON."""
    for schema in (SCHEMA, patch_schema()):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_fits(path: Path):
    """What people copy from validates in their editor, as written and in canonical form."""
    loaded = load(path)
    assert list(ORGANISM.iter_errors(loaded.node.plain())) == []
    assert list(ORGANISM.iter_errors(to_data(loaded.document))) == []


@given(documents())
@FEW
def test_every_document_fits(document: Document):
    """Canonical documents, with bare lists, forms and names, fit the schema."""
    assert list(ORGANISM.iter_errors(to_data(document))) == []


@given(document_data(), st.data())
@FEW
def test_both_refuse_unknown_keys_and_kinds(document: dict[str, object], data: st.DataObject):
    """A key or a kind that evo refuses, the schema refuses, wherever it stands."""
    mappings = [m for m in _mappings(document) if _is_spec(m, document)]
    place = data.draw(st.sampled_from(mappings))
    if "kind" in place and data.draw(st.booleans()):
        place["kind"] = "teleport"
    else:
        place["teleport"] = 1
    with pytest.raises(DiagnosticError, match=r"EVO200|EVO210"):
        from_data(document)
    assert not ORGANISM.is_valid(document)


@pytest.mark.parametrize("code", ["EVO200", "EVO201", "EVO202", "EVO203", "EVO204", "EVO210", "EVO211", "EVO220"])
def test_both_refuse_what_the_codes_show(code: str):
    """The wrong example of each schema code is wrong for the schema, the mended one right."""
    assert not ORGANISM.is_valid(read(CODES[code].wrong).plain())
    assert ORGANISM.is_valid(read(CODES[code].fixed).plain())


@given(documents(), documents())
@FEW
def test_every_patch_fits(a: Document, b: Document):
    """Serialised patches fit theirs, and nothing with another key does."""
    data = diff(a, b).to_data()
    assert list(PATCH.iter_errors(data)) == []
    assume(data["edits"])
    data["edits"][0]["was"] = 1
    assert not PATCH.is_valid(data)


@pytest.mark.parametrize("cls", spec_classes(), ids=lambda cls: cls.__name__)
def test_every_class_and_field_is_described(cls: type[Spec]):
    """An editor shows prose for everything: each class and each field has its docstring."""
    assert summary(cls)
    assert set(field_docs(cls)) == set(cls.model_fields)


def test_genes_and_defaults_are_in_the_schema():
    """Ranges of evolution and defaults reach other programs."""
    stage = SCHEMA["$defs"]["stage.blocks"]["properties"]
    assert stage["repeat"]["x-gene"] == {"low": 1, "high": 12, "step": "+1"}
    assert stage["name"]["x-gene"] is False
    assert stage["ffn"]["default"] == {"kind": "gated"}
    train = SCHEMA["$defs"]["document"]["properties"]["train"]
    assert train["properties"]["optimizer"]["default"] == {"kind": "adamw"}


def test_what_is_composed_fits():
    """A document that extends another may hold any part of one; a definition may stand wherever a kind does."""
    whole = to_data(load(ROOT / "examples" / "first.yaml").document)
    assert ORGANISM.is_valid({"extends": "first.yaml", "organism": {"stages": {"body": {"repeat": 2}}}})
    assert not ORGANISM.is_valid({"extends": "first.yaml", "organisms": {}})
    assert not ORGANISM.is_valid({"evo": 1, "organism": {}})
    stage = {"name": "body", "mix": {"use": "near", "heads": 2}}
    assert ORGANISM.is_valid({**whole, "define": {"near": 1}, "organism": {"width": 64, "stages": [stage]}})


def _mappings(data: object) -> list[dict[str, object]]:
    if isinstance(data, dict):
        return [data, *(found for value in data.values() for found in _mappings(value))]
    return [found for item in data for found in _mappings(item)] if isinstance(data, list) else []


def _is_spec(mapping: dict[str, object], document: dict[str, object]) -> bool:
    """Not the tables of pseudopods and layers, whose keys are free."""
    organism = document["organism"]
    assert isinstance(organism, dict)
    return all(mapping is not organism.get(table) for table in ("pseudopods", "layers"))


class HostSpec(Spec):
    """A spec whose fields name their default kinds."""

    one: Annotated[Spec, RoleOf("norm", default="layer")] = DEFAULT
    several: Annotated[tuple[Spec, ...], ListOf(bare=True), RoleOf("ffn", default="dense")] = DEFAULT


def test_a_field_says_its_default_kind_once():
    """A field whose `RoleOf` names a kind holds one of it where it is left out, a list of one where it is a list."""
    host = HostSpec()
    assert (host.one, host.several) == (LayerNormSpec(), (DenseSpec(),))
    assert spec_fields(HostSpec)["one"].default == LayerNormSpec()


@pytest.mark.parametrize("role", index.KINDS)
def test_every_kind_has_a_snippet_that_is_right(role: str):
    """What an editor puts in for a kind fits the schema and the language as it stands."""
    snippets = SCHEMA["$defs"][role]["defaultSnippets"]
    assert sorted(snippet["label"] for snippet in snippets) == index.kinds(role)
    fits = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{role}", "$defs": SCHEMA["$defs"]})
    for snippet in snippets:
        assert list(fits.iter_errors(snippet["body"])) == []
        builder = Builder(read(write(snippet["body"])))
        made = builder.kind(role, ())
        assert builder.diagnostics == []
        assert isinstance(made, index.kind_class(role, snippet["label"]))
