"""The tree of specs: what the walker finds, what the rewriter changes, what names stand for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.dsl.canonical import plain, to_data, to_yaml
from evo.dsl.document import Document, from_data
from evo.dsl.patch import Patch, apply, diff, rewrite
from evo.dsl.spec import Spec
from evo.dsl.tree import Path, Place, inline, names, replaced, specs, walk
from strategies import documents, valid_documents

FEW = settings(max_examples=12)
NEAR = {"kind": "attention", "heads": 2}
FAR = {"parallel": ["near", {"kind": "convolution"}]}


def document(*mix: Any, **pseudopods: Any) -> Document:
    """A document of one stage with these mixers."""
    stage = {"name": "body", "repeat": len(mix), "mix": list(mix)}
    return from_data({"evo": 1, "organism": {"width": 32, "pseudopods": pseudopods, "stages": [stage]}}).document


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    """What stands at a path, found without the walker."""
    for step in path:
        value = (
            getattr(value, f"{step}_" if f"{step}_" in type(value).model_fields else str(step))
            if isinstance(value, Spec)
            else value[step]
        )
    return value


@given(documents())
@FEW
def test_the_walk_finds_every_field_once(document: Document) -> None:
    """Each place holds what stands at its path, parents come before children, and no field of any spec is missing."""
    places = list(walk(document))
    paths = [place.path for place in places]
    assert len(set(paths)) == len(paths)
    assert all(place.value is at(document, place.path) for place in places)
    assert all(at(document, place.path[:-1]) is place.owner for place in places)
    fields = sum(len(type(spec).model_fields) for _, spec in specs(document))
    assert len(places) == fields
    order = {path: index for index, path in enumerate(paths)}
    above = {path: [path[:size] for size in range(1, len(path)) if path[:size] in order] for path in paths}
    assert all(order[parent] < order[path] for path in paths for parent in above[path])


@given(documents(), documents(), st.data())
@FEW
def test_rewriting_puts_values_at_their_places(one: Document, two: Document, data: st.DataObject) -> None:
    """A rewrite applied gives the new value at each place, in canonical form, and is the patch that `diff` finds."""
    # canonical form leaves out the pseudopods and layers that no stage names, with what is put there
    left_out = {"evo", "name", "pseudopods", "layers"}
    fields = {place.path: place.field for place in walk(one) if not left_out & set(place.path)}
    known = [place for place in walk(two) if fields.get(place.path) == place.field]
    taken: list[Place] = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=4))
    changes: dict[Path, Any] = {}
    for place in taken:
        if is_apart(place.path, changes):
            changes[place.path] = place.value
    patch = rewrite(one, changes)
    changed = apply(patch, one).document
    for path, value in changes.items():
        assert plain(at(changed, path), fields[path]) == plain(value, fields[path])
    assert patch == diff(one, changed)


def is_apart(path: Path, others: Iterable[Path]) -> bool:
    """Whether a path leads neither into nor above any of the others."""
    return all(path[: len(other)] != other[: len(path)] for other in others)


def test_rewriting_takes_specs_and_plain_data() -> None:
    """The same patch comes of a spec and of its plain data."""
    before, other = document(NEAR), document({"kind": "convolution", "size": 3}).organism
    path = ("organism", "stages", 0, "mix", 0)
    spec: Spec = at(other, ("stages", 0, "mix", 0))
    assert rewrite(before, {path: spec}) == rewrite(before, {path: to_data(spec)})
    assert str(rewrite(before, {path: spec})) == (
        "~ organism.stages.body.mix: {kind: attention, heads: 2} -> {kind: convolution, size: 3}"
    )


def test_rewriting_nothing_is_the_empty_patch() -> None:
    """No changes, or a value that is there already, give no edits."""
    before = document(NEAR)
    assert rewrite(before, {}) == rewrite(before, {("organism", "width"): 32}) == Patch()


def test_replacing_leaves_the_original_alone() -> None:
    """A changed copy shares nothing that changes: the original reads as before."""
    before = document(NEAR, "near", near=NEAR)
    text = to_yaml(before)
    after = replaced(before, {("organism", "pseudopods", "near", "heads"): 4, ("organism", "stages", 0, "repeat"): 5})
    assert to_yaml(before) == text
    assert to_yaml(after) != text


@given(valid_documents())
@FEW
def test_inlining_twice_is_inlining_once(document: Document) -> None:
    """Where names are written out there are none left, and nothing more to write out."""
    for stage in document.organism.stages:
        once = inline(stage, document.organism.pseudopods)
        assert list(names(once)) == []
        assert inline(once, {}) == once


def test_inlining_reaches_through_composites_and_names() -> None:
    """Names inside a composite, and inside what a name stands for, are written out too."""
    found = document("far", {"parallel": ["near", "far"]}, near=NEAR, far=FAR)
    stage = inline(found.organism.stages[0], found.organism.pseudopods)
    far = {"parallel": [NEAR, {"kind": "convolution"}]}
    assert to_data(stage)["mix"] == [far, {"parallel": [NEAR, far]}]


def test_an_unknown_name_cannot_be_written_out() -> None:
    """The names are the caller's to have checked."""
    with pytest.raises(KeyError, match="near"):
        inline(document("near").organism, {})
