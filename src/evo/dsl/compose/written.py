"""What `evo fmt` writes of a document that extends or defines something: its own text, in order."""

from __future__ import annotations

from typing import Any

from evo.dsl.compose.composed import DEFINE, EXTENDS
from evo.dsl.compose.merge import USE
from evo.dsl.compose.place import Place
from evo.dsl.spec import spec_fields
from evo.dsl.yaml import Node

FIRST = ("evo", EXTENDS, "name", DEFINE, "kind", USE)
"""Keys that stand before all others."""


def ordered(node: Node, place: Place) -> Any:
    """What a node has written as plain data, with keys in the order of the language.

    Nothing is left out: what is a default elsewhere may change what is extended.
    """
    if isinstance(node.value, tuple):
        return [ordered(item, place.item(item)) for item in node.value]
    if not isinstance(node.value, dict):
        return node.value
    own = list(spec_fields(place.cls)) if place.cls else []
    known = [*FIRST, *(key for key in own if key not in FIRST)]
    keys = sorted(node.value, key=lambda key: known.index(key) if key in known else len(known))
    return {key: ordered(node.value[key].node, place.into(key, node.value[key].node)) for key in keys}
