"""What a recurrence cannot be is refused, and said where it stands."""

from __future__ import annotations

from typing import Any

import pytest

from evo.compiler.check import check, problems
from evo.dsl.document import from_data

OUTER = {"kind": "recurrence", "heads": 2, "update": "outer"}
DELTA = {"kind": "recurrence", "heads": 2}
LINEAR = {**OUTER, "feature": "elu", "normalizer": "sum"}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({**DELTA, "write": "share"}, "write"),
    ({**DELTA, "write": "channel"}, "write"),
    ({**DELTA, "erase": "channel", "writes": 2}, "erase"),
    ({**LINEAR, "write": "channel"}, "write"),
    ({**DELTA, "correct": True, "writes": 2}, "correct"),
    ({**OUTER, "correct": True, "keys": "decay", "decay": "channel"}, "correct"),
    ({**DELTA, "solve": 4}, "solve"),
    ({**OUTER, "solve": 4, "decay": "channel"}, "solve"),
    ({**OUTER, "solve": 4, "write": "channel"}, "solve"),
    ({**OUTER, "solve": 4, "levels": True}, "solve"),
    ({**LINEAR, "solve": 4}, "solve"),
    ({**OUTER, "levels": True, "decay": "channel"}, "levels"),
    ({**OUTER, "levels": True, "bonus": True}, "levels"),
    ({**DELTA, "levels": True, "writes": 2}, "levels"),
    ({**DELTA, "levels": True, "erase": "channel"}, "levels"),
    ({**DELTA, "turns": True, "key_dim": 5}, "turns"),
    ({**DELTA, "turns": True, "writes": 2}, "turns"),
    ({**OUTER, "turns": True, "solve": 2}, "turns"),
    ({**LINEAR, "turns": True}, "turns"),
]


@pytest.mark.parametrize(("mix", "field"), REFUSED, ids=lambda part: str(part))
def test_what_does_not_fit_is_refused(mix: dict[str, Any], field: str):
    """One EVO305 at the field, with what to change."""
    body = {"width": 16, "stages": [{"name": "s", "mix": mix}]}
    (found,) = problems(from_data({"evo": 1, "organism": body}).document)
    assert (found.code, found.path[-1]) == ("EVO305", field)
    assert found.help


@pytest.mark.parametrize("mix", [{**DELTA, "erase": "head", "writes": 2}, {**OUTER, "levels": True, "write": "share"}])
def test_what_fits_passes(mix: dict[str, Any]):
    """Neighbours of what is refused have no fault."""
    body = {"width": 16, "stages": [{"name": "s", "mix": mix}]}
    assert check(from_data({"evo": 1, "organism": body})) == []
