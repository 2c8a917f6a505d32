"""Laws of the language, on random documents."""

from hypothesis import given, settings
from hypothesis import strategies as st

from evo.compiler.check import problems
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash, to_data, to_yaml
from evo.dsl.document import Document, from_data, parse
from evo.dsl.format import formatted, is_formatted
from evo.dsl.patch import apply, diff, patch_from_node
from evo.dsl.yaml import read, write
from evo.report.costs import costs
from evo.report.explain import rows
from strategies import document_data, documents, is_document, valid_documents

FEW = settings(max_examples=12)


@given(documents())
@FEW
def test_the_canonical_text_reads_back(document: Document):
    """parse(to_yaml(d)) is d but for parts that nothing names, and its text is the same again."""
    again = parse(to_yaml(document)).document
    assert to_data(again) == to_data(document)
    assert to_yaml(again) == to_yaml(document)
    if not document.organism.parts:
        assert again == document


def test_settings_that_are_all_defaults_are_there():
    """`four_bits: {}` is written, read and part of the identity: without it the maps stay in 32 bits."""
    data = {"evo": 1, "organism": {"width": 32, "stages": [{"name": "s", "mix": {"kind": "attention", "heads": 2}}]}}
    plain, packed = (
        from_data({**data, "organism": {**data["organism"], "adapters": {"kind": "lora", **more}}}).document
        for more in ({}, {"four_bits": {}})
    )
    assert parse(to_yaml(packed)).document == packed
    assert content_hash(packed) != content_hash(plain)


@given(document_data())
@FEW
def test_the_hash_ignores_order_comments_and_spelling(data: dict[str, object]):
    """Keys in another order, flow for block style and comments leave the content hash alone."""
    document = from_data(data).document
    turned = _reversed(data)
    commented = "# first\n" + write(turned).replace("\n", "  # why\n", 1)
    assert content_hash(parse(commented).document) == content_hash(document)
    assert content_hash(from_data(to_data(document)).document) == content_hash(document)


@given(documents())
@FEW
def test_the_hash_ignores_the_name_and_the_search(document: Document):
    """What changes nothing about an evaluation changes nothing about its identity."""
    data = to_data(document)
    renamed = {**data, "name": "other", "evolve": {"generations": 77}}
    assert content_hash(from_data(renamed).document) == content_hash(document)


@given(documents(), st.sampled_from(["", "# one\n", "# one\n\n# two\n\n", "\n\n"]))
@FEW
def test_formatting_is_idempotent(document: Document, header: str):
    """A formatted file is formatted, whatever led it."""
    once = formatted(parse(header + to_yaml(document)))
    assert is_formatted(parse(once))
    assert formatted(parse(once)) == once


@given(documents(), documents())
@FEW
def test_a_patch_leads_from_one_document_to_the_other_and_back(a: Document, b: Document):
    """apply(diff(a, b), a) is b; inverted, it leads back; both in canonical form."""
    patch = diff(a, b)
    assert to_yaml(apply(patch, a).document) == to_yaml(b)
    assert to_yaml(apply(patch.invert(), b).document) == to_yaml(a)
    assert bool(patch) == (to_data(a) != to_data(b))


@given(documents(), documents())
@FEW
def test_a_patch_survives_its_file(a: Document, b: Document):
    """Written and read, a patch is the same patch."""
    patch = diff(a, b)
    assert patch_from_node(read(patch.to_yaml())) == patch


@given(documents())
@FEW
def test_a_document_does_not_differ_from_itself(document: Document):
    """diff(a, a) is empty."""
    assert not diff(document, document)


@given(valid_documents())
@FEW
def test_valid_documents_have_a_plan_whose_rows_add_up(document: Document):
    """A document without errors resolves, and the layer table sums to its totals."""
    assert not [problem for problem in problems(document) if problem.severity == "error"]
    plan = resolve(document.organism)
    table = [row for row in rows(plan) if not row.part]
    assert sum(row.parameters * row.copies for row in table) == plan.parameters == costs(plan).parameters
    assert abs(sum(row.flops_per_token * row.count for row in table) / plan.flops_per_token - 1) < 1e-9


@given(document_data())
@FEW
def test_strategies_draw_documents(data: dict[str, object]):
    """What the strategies draw from the metadata fits the schema."""
    assert is_document(data)


def _reversed(data: object) -> object:
    if isinstance(data, dict):
        return {key: _reversed(data[key]) for key in reversed(data)}
    return [_reversed(item) for item in data] if isinstance(data, list) else data
