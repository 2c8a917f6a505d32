"""What `evo explain` says of the settings of blocks."""

from pathlib import Path

from evo.api.documents import load, plan
from evo.report.explain import rows

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_what_is_off_that_is_on_by_default_is_told():
    """A router that does not renormalise says so, between single spaces."""
    told = [row.settings for row in rows(plan(load(EXAMPLES / "zero_experts.yaml")))]
    assert any("router renormalise false logits_to paths" in settings for settings in told)


def test_a_part_that_is_as_by_default_is_told_by_its_name():
    """A part of a setting has no kind, and nothing to add where all of it is as by default."""
    told = [row.settings for row in rows(plan(load(EXAMPLES / "composed_heads.yaml")))]
    assert any("mix_scores compose," in f"{settings}," for settings in told)
