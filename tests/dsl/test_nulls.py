"""A null anywhere is a value or a diagnostic."""

from __future__ import annotations

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.dsl.canonical import to_yaml
from evo.dsl.document import Document, from_data, parse
from evo.dsl.index import DEFAULT_KIND, KINDS, kind_class
from evo.dsl.spec import Spec, spec_fields

CLASSES = {cls for role in KINDS for cls in (kind_class(role, kind) for kind in KINDS[role])}
FIELDS = sorted((cls.__module__, cls.__name__, key) for cls in CLASSES for key in spec_fields(cls))


def _with_null(cls: type[Spec], key: str) -> dict[str, object]:
    """A document in which a spec of this class, as good as nothing else, has null under a key."""
    role = next(r for r in KINDS for k in KINDS[r] if kind_class(r, k) is cls)
    spec: dict[str, object] = {key: None}
    if not cls.is_keyed and cls.kind != DEFAULT_KIND.get(role):
        spec = {"kind": cls.kind, **spec}
    stage: dict[str, object] = {"name": "a", "mix": {"kind": "convolution"}}
    organism: dict[str, object] = {"width": 32, "stages": [stage]}
    places: dict[str, dict[str, object]] = {
        "mixer": {"organism": {**organism, "pseudopods": {"p": spec}}},
        "ffn": {"organism": {**organism, "stages": [{**stage, "ffn": spec}]}},
        "norm": {"organism": {**organism, "norm": spec}},
        "position": {"organism": {**organism, "position": spec}},
        "scaling": {"organism": {**organism, "position": {"kind": "rope", "scaling": spec}}},
        "stencil": {"organism": {**organism, "pseudopods": {"p": {"kind": "attention", "heads": 1, "stencil": spec}}}},
        "stage": {"organism": {**organism, "stages": [{**stage, **spec}]}},
        "cooling": {"organism": organism, "evolve": {"cooling": spec}},
    }
    train = {"organism": organism, "train": {role: spec}}
    return {"evo": 1, **places.get(role, train)}


@pytest.mark.parametrize(("module", "name", "key"), FIELDS)
def test_null_is_a_value_or_a_diagnostic(module: str, name: str, key: str) -> None:
    """A null under any key of any spec is read or refused with a diagnostic, never a traceback."""
    cls = next(cls for cls in CLASSES if (cls.__module__, cls.__name__) == (module, name))
    try:
        found = from_data(_with_null(cls, key)).document
    except DiagnosticError as error:
        found = error
    assert isinstance(found, Document) or found.diagnostics


def test_null_in_place_of_a_default_is_read_and_written() -> None:
    """A field that holds a spec by default and may hold none: null is that, and comes back from the canonical text."""
    organism = {"width": 32, "stages": [{"name": "a", "mix": {"kind": "convolution"}}]}
    found = from_data({"evo": 1, "organism": organism, "evolve": {"surrogate": None}}).document
    assert found.evolve.surrogate is None
    assert parse(to_yaml(found)).document == found
