"""Patches: what they look like, and what they refuse."""

import pickle

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.dsl.document import Document, parse
from evo.dsl.patch import ABSENT, Edit, Patch, apply, apply_data, diff, diff_data, patch_from_node
from evo.dsl.yaml import read

BEFORE = """\
evo: 1
organism:
  width: 64
  stages:
    - {name: lower, mix: {kind: attention, heads: 2}}
    - {name: middle, mix: {kind: convolution}}
    - {name: upper, mix: {kind: attention, heads: 2}, ffn: {kind: none}}
"""
AFTER = """\
evo: 1
organism:
  width: 96
  stages:
    - {name: lower, mix: [{kind: attention, heads: 4}, {kind: convolution}], repeat: 2}
    - {name: top, mix: {kind: convolution, size: 3}}
"""


def document(text: str) -> Document:
    """The document in a text."""
    return parse(text).document


def test_a_patch_reads_like_its_change():
    """One line an edit: what came, left and changed, stages by name."""
    assert str(diff(document(BEFORE), document(AFTER))).splitlines() == [
        "~ organism.width: 64 -> 96",
        "- organism.stages.upper: {name: upper, mix: {kind: attention, heads: 2}, ffn: {kind: none}}",
        "- organism.stages.middle: {name: middle, mix: {kind: convolution}}",
        "+ organism.stages.top: {name: top, mix: {kind: convolution, size: 3}}  (at 1)",
        "~ organism.stages.lower.mix: {kind: attention, heads: 2} -> "
        "[{kind: attention, heads: 4}, {kind: convolution}]",
        "+ organism.stages.lower.repeat: 2",
    ]


def test_a_patch_survives_pickling():
    """Workers of a search receive patches; absence stays absence there."""
    patch = diff(document(BEFORE), document(AFTER))
    assert pickle.loads(pickle.dumps(patch)) == patch
    assert pickle.loads(pickle.dumps(ABSENT)) is ABSENT


def test_entries_of_another_kind_are_replaced_in_place():
    """A named entry whose kind changes keeps its place, both ways."""
    a = {"stages": [{"name": "x", "kind": "p"}, {"name": "y", "kind": "p", "size": 1}]}
    b = {"stages": [{"name": "x", "kind": "p"}, {"name": "y", "kind": "q", "width": 2}]}
    assert apply_data(diff_data(a, b), a) == b
    assert apply_data(diff_data(a, b).invert(), b) == a


def test_values_of_other_types_differ():
    """1, 1.0 and true are three values."""
    assert len(diff_data({"a": 1, "b": 1, "c": 1.0}, {"a": 1.0, "b": True, "c": True}).edits) == 3


def test_the_order_of_keys_in_an_edit_does_not_matter():
    """A patch written by hand fits whatever order its mappings are in."""
    data = {"train": {"steps": 1, "batch": 2}}
    assert apply_data(Patch((Edit(("train",), {"batch": 2, "steps": 1}, ABSENT),)), data) == {}


@pytest.mark.parametrize(
    "edit",
    [
        Edit((), {}, {}),
        Edit(("organism", "width"), 65, 66),
        Edit(("organism", "stages", "nowhere", "repeat"), ABSENT, 2),
        Edit(("organism", "stages", 9), {}, {}),
        Edit(("organism", "stages", "lower", "mix", 0), {}, {}),
        Edit(("organism", "stages", "other"), ABSENT, {"name": "different"}, 0),
        Edit(("organism", "stages", "other"), ABSENT, {"name": "other"}),
        Edit(("organism", "stages", 0), {"name": "lower", "mix": {"kind": "attention", "heads": 2}}, ABSENT),
        Edit(("organism", "width", "x"), ABSENT, 1),
    ],
)
def test_an_edit_that_does_not_fit_changes_nothing(edit: Edit):
    """A conflict is an error, and the document is as before."""
    before = document(BEFORE)
    with pytest.raises(DiagnosticError, match="EVO400"):
        apply(Patch((edit,)), before)
    assert before == document(BEFORE)


@pytest.mark.parametrize(
    "text",
    [
        "evo_patch: 1",
        "evo_patch: 2\nedits: []",
        "evo_patch: true\nedits: []",
        "evo_patch: 1\nedits: {}",
        "evo_patch: 1\nedits: []\nmore: 1",
        "[]",
        "evo_patch: 1\nedits: [{path: a}]",
        "evo_patch: 1\nedits: [{path: '', new: 1}]",
        "evo_patch: 1\nedits: [{path: 3, new: 1}]",
        "evo_patch: 1\nedits: [{path: a, new: 1, at: -1}]",
        "evo_patch: 1\nedits: [{path: a, new: 1, at: true}]",
        "evo_patch: 1\nedits: [{path: a, new: 1, by: me}]",
        "evo_patch: 1\nedits: [1]",
    ],
)
def test_what_is_not_a_patch_is_refused(text: str):
    """Strict, like documents."""
    with pytest.raises(DiagnosticError, match="EVO401"):
        patch_from_node(read(text), text)


def test_all_faults_of_a_patch_come_at_once():
    """Each with its place."""
    text = "evo_patch: 1\nedits:\n  - {path: a}\n  - 1\nmore: 1\n"
    with pytest.raises(DiagnosticError) as caught:
        patch_from_node(read(text), text)
    assert [fault.span.line for fault in caught.value.diagnostics if fault.span] == [3, 4, 5]
