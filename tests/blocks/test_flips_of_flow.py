"""Every field of routes and of stages that shape the flow is built, as `test_flips.py` asks of the others."""

from __future__ import annotations

import pytest
from block_variants import document
from flip_choices import CHOICES
from flip_hosts import ELSEWHERE, JUDGED_THERE, NOT_BY_ITSELF, SLOW, SOMETIMES
from flips import dead_flips, without_effect

from evo.dsl import index
from evo.dsl.spec import spec_fields

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("host", SLOW)
def test_no_field_is_dead(host: str) -> None:
    """Flipping any field changes what is computed, or what one training step makes of it, or gives a diagnostic."""
    acting = SOMETIMES | ELSEWHERE.keys()
    dead = [flip for flip in dead_flips(document(**SLOW[host])) if f"{flip.owner}.{flip.field}" not in acting]
    assert not dead, "\n".join(map(str, dead))


def test_every_field_changes_some_network() -> None:
    """Some flip of every field of these classes, and of what they add to others, builds another network."""
    kinds = [index.kind_class(role, kind) for role in ("mixer", "stage", "patcher") for kind in index.kinds(role)]
    mine = [cls for cls in kinds if cls.__name__ in JUDGED_THERE]
    fields = {(cls.__name__, key) for cls in mine for key in spec_fields(cls)} - NOT_BY_ITSELF
    fields |= {("BlocksSpec", "kv_add"), ("LayersSpec", "kv_add")}
    assert without_effect((document(**data) for data in (*SLOW.values(), CHOICES["depths"])), fields) == set()
    assert {cls.__name__ for cls in mine} == JUDGED_THERE
