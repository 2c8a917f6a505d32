"""The table of diagnostic codes."""

import re
from pathlib import Path

import evo
from evo.base.codes import CODES

PACKAGE = Path(evo.__file__).parent
RAISED = re.compile(r"""(?:Diagnostic|Problem|Fault|_fault|_fail|_add|_conflict|_diagnostic)\(\s*["'](EVO\d{3})["']""")
CHOSEN = re.compile(r"""code = ["'](EVO\d{3})["'].*else ["'](EVO\d{3})["']""")


def raised() -> dict[str, str]:
    """Every code that the source raises, with a file that does."""
    found: dict[str, str] = {}
    for path in PACKAGE.rglob("*.py"):
        if PACKAGE / "base" / "codes" not in path.parents:
            text = path.read_text(encoding="utf-8")
            codes = [*RAISED.findall(text), *(code for pair in CHOSEN.findall(text) for code in pair)]
            found.update((code, str(path)) for code in codes)
    return found


def test_every_raised_code_is_explained():
    """A code that a user can meet is one that `evo explain` knows."""
    assert {code: path for code, path in raised().items() if code not in CODES} == {}


def test_every_explained_code_is_raised():
    """The table holds nothing that evo never says."""
    assert set(CODES) - set(raised()) == set()


def test_codes_are_in_order_and_told_in_full():
    """Each entry has a title and a paragraph, and the table is sorted."""
    assert list(CODES) == sorted(CODES)
    for code, entry in CODES.items():
        assert re.fullmatch(r"EVO[0-6]\d\d", code)
        assert entry.title
        assert not entry.title.endswith(".")
        assert entry.explanation.endswith(".")
        assert len(entry.explanation) > 30


def test_documents_and_patches_come_with_both_examples():
    """What a document can get wrong is shown wrong and fixed."""
    for entry in CODES.values():
        if entry.source != "command":
            assert entry.wrong
            assert entry.fixed
            assert entry.wrong != entry.fixed
