"""The documents of the zoo are valid, and build."""

from __future__ import annotations

from pathlib import Path

import pytest

from evo.compiler.check import check
from evo.compiler.resolve import resolve
from evo.dsl.document import load

FILES = sorted((Path(__file__).parents[2] / "examples" / "zoo").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_it_is_valid_and_has_a_plan(path: Path) -> None:
    """No error, and every weight has a shape."""
    loaded = load(path)
    assert not [fault for fault in check(loaded) if fault.severity == "error"]
    assert resolve(loaded.document.organism).parameters > 1000


def test_there_are_enough() -> None:
    """At least twenty-two."""
    assert len(FILES) >= 22
