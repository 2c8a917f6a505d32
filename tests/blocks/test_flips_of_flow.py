"""Every field of routes and of stages that shape the flow is built, as `test_flips.py` asks of the others."""

from __future__ import annotations

import pytest
from block_variants import document
from flip_hosts import ELSEWHERE, JUDGED_THERE, NOT_BY_ITSELF, SLOW, SOMETIMES
from flips import Verdicts, judge

from evo.dsl import index
from evo.dsl.spec import spec_fields

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdicts]:
    return {host: judge(document(**data)) for host, data in SLOW.items()}


@pytest.mark.parametrize("host", SLOW)
def test_no_field_is_dead(host: str, verdicts: dict[str, Verdicts]) -> None:
    """Flipping any field changes what is computed, or what one training step makes of it, or gives a diagnostic."""
    acting = SOMETIMES | ELSEWHERE.keys()
    dead = [flip for flip in verdicts[host].dead if f"{flip.owner}.{flip.field}" not in acting]
    assert not dead, "\n".join(map(str, dead))


def test_every_field_changes_some_network(verdicts: dict[str, Verdicts]) -> None:
    """Some flip of every field of these classes, and of what they add to others, builds another network."""
    changed = {(flip.owner, flip.field) for judged in verdicts.values() for flip in judged.changed}
    kinds = [index.kind_class(role, kind) for role in ("mixer", "stage", "patcher") for kind in index.kinds(role)]
    mine = [cls for cls in kinds if cls.__name__ in JUDGED_THERE]
    fields = {(cls.__name__, key) for cls in mine for key in spec_fields(cls)} - NOT_BY_ITSELF
    assert fields | {("BlocksSpec", "kv_add"), ("LayersSpec", "kv_add")} <= changed
    assert {cls.__name__ for cls in mine} == JUDGED_THERE
