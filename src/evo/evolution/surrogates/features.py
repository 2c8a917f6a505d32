"""What documents say of themselves before they are trained, as numbers by name."""

from __future__ import annotations

import math

from evo.dsl.document import Document
from evo.dsl.genes import Gene
from evo.dsl.spec import Spec
from evo.dsl.tree import walk
from evo.evolution.documents import document_of, plan_of
from evo.evolution.sample import choices


def sizes(text: str) -> dict[str, float]:
    """The logarithms of sizes, of costs, and of the numbers of the training settings."""
    document, plan = document_of(text), plan_of(text)
    found = {
        "width": math.log(plan.width),
        "parameters": math.log(plan.parameters),
        "flops": math.log(plan.flops_per_token),
        "cache": math.log1p(plan.cache_values(document.context)),
        "layers": math.log1p(len(plan.layers)),
    }
    for place in walk(document.train, ("train",)):
        if place.field.meta(Gene) is not None and isinstance(place.value, (int, float)) and place.value > 0:
            found[".".join(map(str, place.path))] = math.log(place.value)
    return found


def chosen(document: Document) -> set[str]:
    """`role: kind` of every kind in a document that is read, and `kind.field: value` where a choice is not the usual
    one."""
    found = set[str]()
    for part in (document.organism, document.train):
        for place in walk(part):
            owner, field = place.owner, place.field
            if field.name in owner.unread:
                continue
            kinds = (item.kind for _, item in place.entries() if isinstance(item, Spec))
            found.update(f"{place.role}: {kind}" for kind in kinds if kind)
            if choices(field.info) and place.value != field.default:
                found.add(f"{owner.label}.{field.key}: {place.value}")
    return found
