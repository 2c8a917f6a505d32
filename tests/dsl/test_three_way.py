"""Merging documents: what one side changed is taken, what both changed alike too, and nothing is lost or invented."""

from evo.dsl.canonical import to_data, to_yaml
from evo.dsl.document import Document, from_data, parse
from evo.dsl.three_way import merge

BASE = """\
evo: 1
organism:
  width: 64
  stages:
    - {name: lower, repeat: 2, mix: {kind: attention, heads: 2}}
    - {name: upper, mix: {kind: attention, heads: 4}}
train: {steps: 80}
"""


def changed(*pairs: tuple[str, str]) -> Document:
    """The base with parts of its text replaced."""
    text = BASE
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return parse(text).document


WIDER = ("width: 64", "width: 128")
LONGER = ("steps: 80", "steps: 200")
UPPER = "    - {name: upper, mix: {kind: attention, heads: 4}}\n"


def test_changes_of_different_places_come_together():
    """Keys of one mapping, entries of the list of stages, whole sections; the order of sides makes no difference."""
    middle = ("    - {name: upper", "    - {name: middle, mix: {kind: convolution}}\n    - {name: upper")
    ours, theirs = changed(WIDER, middle), changed(LONGER, ("heads: 4", "heads: 8"))
    wanted = changed(WIDER, LONGER, middle, ("heads: 4", "heads: 8"))
    for one, other in ((ours, theirs), (theirs, ours)):
        found = merge(changed(), one, other)
        assert found.conflicts == ()
        assert from_data(found.ours).document == wanted
        assert parse(found.text()).document == wanted


def test_equal_changes_are_no_conflict():
    """Both sides made the same, or one made nothing."""
    for ours, theirs in ((changed(WIDER), changed(WIDER)), (changed(WIDER), changed()), (changed(), changed(WIDER))):
        found = merge(changed(), ours, theirs)
        assert found.conflicts == ()
        assert found.ours == found.theirs == to_data(changed(WIDER))


def test_two_changes_of_one_value_are_marked():
    """Only the lines that differ stand between git's markers; the rest is merged."""
    ours, theirs = changed(WIDER, LONGER), changed(("width: 64", "width: 32"), ("repeat: 2", "repeat: 3"))
    found = merge(changed(), ours, theirs)
    (conflict,) = found.conflicts
    assert (conflict.path, conflict.ours, conflict.theirs) == (("organism", "width"), 128, 32)
    marked = "<<<<<<< ours\n  width: 128\n=======\n  width: 32\n>>>>>>> theirs\n"
    assert marked in found.text()
    assert found.text().replace(marked, "  width: 128\n") == to_yaml(changed(WIDER, LONGER, ("repeat: 2", "repeat: 3")))


def test_what_one_takes_away_and_the_other_changes_is_a_conflict():
    """A stage that left here and changed there; a kind that both exchanged."""
    found = merge(changed(), changed((UPPER, "")), changed(("heads: 4", "heads: 8")))
    assert [conflict.path for conflict in found.conflicts] == [("organism", "stages", "upper")]
    assert merge(changed(), changed((UPPER, "")), changed(WIDER)).conflicts == ()
    kinds = [changed(("{kind: attention, heads: 4}", f"{{kind: {kind}}}")) for kind in ("convolution", "hyena")]
    found = merge(changed(), *kinds)
    assert [conflict.path for conflict in found.conflicts] == [("organism", "stages", "upper", "mix")]
