"""The index: kinds of other packages are kinds like ours, and what cannot be one is said."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.dsl.canonical import to_data, to_yaml
from evo.dsl.document import from_data, parse
from evo.dsl.index import KINDS, keyed, kind_class, kinds, tagged
from evo.dsl.schema import organism_schema

Install = Callable[[Mapping[str, str]], None]


def faults(document: object) -> list[str]:
    """What is wrong with a document, with the codes."""
    with pytest.raises(DiagnosticError) as caught:
        from_data(document)  # pyright: ignore[reportArgumentType]
    return [f"{fault.code} {fault.message}" for fault in caught.value.diagnostics]


def with_mixer(mix: object) -> dict[str, object]:
    """A document of one stage with this mixer."""
    return {"evo": 1, "organism": {"width": 32, "stages": [{"name": "body", "mix": mix}]}}


@pytest.mark.parametrize("role", KINDS)
def test_every_kind_says_its_name(role: str) -> None:
    """The row and the class agree, and a kind that is told by a key has that key."""
    for kind in kinds(role):
        cls = kind_class(role, kind)
        assert cls.kind == kind
        assert not cls.is_keyed or cls.model_fields[kind].is_required()


def test_ours_are_told_by_kind_but_for_composites() -> None:
    """`kinds` has both sorts, and each is in one of them."""
    assert keyed("mixer") == ["chain", "conditioned", "formed", "joined", "parallel", "product", "route"]
    assert sorted([*tagged("mixer"), *keyed("mixer")]) == kinds("mixer")


def test_a_composite_has_no_kind_key() -> None:
    """`{kind: parallel}` is refused with how it is written."""
    mix = {"kind": "parallel", "parallel": [{"kind": "convolution"}] * 2}
    assert faults(with_mixer(mix)) == ["EVO210 parallel is written without `kind`"]


@pytest.mark.usefixtures("strangers")
def test_kinds_of_another_package_are_read_and_written() -> None:
    """Kinds told by `kind` and composites told by their key come back from their canonical text."""
    near = {"kind": "inheriting"}
    dispatch = {"dispatch": [near, {"kind": "convolution"}], "top_k": 2}
    for mix in (dispatch, {"kind": "pair", "first": near, "second": near}):
        found = from_data(with_mixer(mix)).document
        assert to_data(found) == with_mixer(mix)
        assert parse(to_yaml(found)).document == found


@pytest.mark.usefixtures("strangers")
def test_a_kind_called_as_another_roles_default_keeps_its_kind() -> None:
    """Only a stage's own default kind is left out of the canonical form."""
    found = from_data(with_mixer({"kind": "blocks", "size": 3})).document
    assert to_data(found)["organism"]["stages"] == [{"name": "body", "mix": {"kind": "blocks", "size": 3}}]
    assert parse(to_yaml(found)).document == found


@pytest.mark.usefixtures("strangers")
def test_kinds_of_another_package_are_in_the_schema() -> None:
    """The schema that an installed evo prints has them, told apart as they are written."""
    definitions = organism_schema()["$defs"]
    assert definitions["mixer.dispatch"]["required"] == ["dispatch"]
    assert definitions["mixer.pair"]["required"] == ["kind", "first", "second"]


FAULTS = {
    "mixer.attention": "clashes with the mixer kind 'attention' of evo itself",
    "mixerr.dispatch": "names no role: there is no 'mixerr'",
    "mixer": "names no kind",
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_entry_point_that_is_no_kind_is_an_error(install: Install, name: str) -> None:
    """A clash, an unknown role and a missing kind are EVO212 as soon as somebody asks for what is not built in."""
    install({name: "strangers.dispatch:DispatchSpec"})
    message = f"EVO212 the entry point '{name}' of an installed package {FAULTS[name]}"
    with pytest.raises(DiagnosticError) as caught:
        kinds("mixer")
    assert str(caught.value) == message
    assert faults(with_mixer({"kind": "dispatch"})) == [message]


@pytest.mark.parametrize(
    "value", ["strangers.mixers:PairSpec", "strangers.mixers:Nobody", "nowhere.at.all:DispatchSpec"]
)
def test_an_entry_point_that_leads_nowhere_is_an_error(install: Install, value: str) -> None:
    """A class of another kind, none at all, and a module that cannot be imported are EVO212."""
    install({"mixer.dispatch": value})
    (fault,) = faults(with_mixer({"dispatch": []}))
    assert fault.startswith("EVO212 the entry point 'mixer.dispatch' of an installed package ")


def test_a_fault_names_the_package(monkeypatch: pytest.MonkeyPatch, install: Install) -> None:
    """Where the distribution is known, the message says which one to look at."""
    install({})
    theirs = importlib.metadata.distribution("pytest")
    point = importlib.metadata.EntryPoint("norms.mine", "strangers.dispatch:DispatchSpec", "evo.kinds")
    vars(point).update(dist=theirs)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(DiagnosticError, match="of package 'pytest' names no role") as caught:
        kinds("mixer")
    assert str(caught.value.diagnostics[0].help).startswith("did you mean 'norm'?")


def test_documents_of_built_in_kinds_look_at_no_package(monkeypatch: pytest.MonkeyPatch, install: Install) -> None:
    """Reading entry points is slow: it waits until a kind is not built in."""
    install({})

    def refuse(group: str) -> None:
        raise AssertionError(group)

    monkeypatch.setattr(importlib.metadata, "entry_points", refuse)
    mix = {"parallel": [{"kind": "attention", "heads": 2}, {"kind": "convolution"}]}
    to_yaml(from_data({**with_mixer(mix), "train": {"optimizer": {"kind": "lion"}}}).document)
