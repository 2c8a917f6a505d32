"""A document's name is one path component on every system."""

import pytest

from evo.compiler.check import problems
from evo.dsl.document import from_data

STAGE = {"name": "body", "mix": {"kind": "attention", "heads": 2}}


@pytest.mark.parametrize("name", ["embedding", "tokens", "kv"])
def test_no_stage_has_the_name_of_what_a_pass_hands_on(name: str) -> None:
    """EVO313: later blocks that read token ids, or what is added to keys and values, would read the stage."""
    stages = [{**STAGE, "name": name}, {"name": "b", "mix": {"kind": "engram"}}]
    found = problems(from_data({"evo": 1, "organism": {"width": 32, "stages": stages}}).document)
    assert [problem.code for problem in found if problem.severity == "error"] == ["EVO313"]


def codes(name: str) -> list[str]:
    """What is wrong with a document of that name."""
    document = from_data({"evo": 1, "name": name, "organism": {"width": 32, "stages": [STAGE]}}).document
    return [problem.code for problem in problems(document)]


@pytest.mark.parametrize(
    "name", ["..", ".", "../x", "/x", "a/b", "a\\b", "C:x", "a\0b", "a\x1bb", "nul", "COM1.txt", "x.", "x ", "ä" * 150]
)
def test_what_no_folder_can_be_called_is_refused(name: str) -> None:
    """EVO344, whatever the system at hand would allow."""
    assert codes(name) == ["EVO344"]


@pytest.mark.parametrize("name", ["x", "my model", "GPT-2 (small)", "v1.2_b", ".x", "größer", "nullable", "console"])
def test_other_names_are_fine(name: str) -> None:
    """Spaces, dots inside, and letters of any language."""
    assert codes(name) == []
