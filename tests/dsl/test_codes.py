"""Golden pairs: the wrong example of every code gives that code with this text, the mended one gives nothing.

After a deliberate change of wording: `python tests/dsl/test_codes.py` rewrites the files; read their diff.
"""

import re
from pathlib import Path

import pytest

from evo.base.codes import CODES
from evo.base.diagnostics import Diagnostic, DiagnosticError, render
from evo.compiler.check import check
from evo.dsl.canonical import to_data
from evo.dsl.document import parse
from evo.dsl.patch import apply_data, patch_from_node
from evo.dsl.yaml import read

GOLDEN = Path(__file__).parent / "golden"
SHOWN = [code for code, entry in CODES.items() if entry.source != "command"]
DOCUMENT = "evo: 1\norganism:\n  width: 64\n  stages:\n    - name: body\n      mix: {kind: attention, heads: 2}\n"


def faults(code: str, text: str) -> list[Diagnostic]:
    """What evo finds wrong with an example, a document or a patch of DOCUMENT."""
    try:
        if CODES[code].source == "document":
            return check(parse(text, "example.yaml"))
        apply_data(patch_from_node(read(text, "example.yaml"), text), to_data(parse(DOCUMENT).document))
    except DiagnosticError as error:
        return list(error.diagnostics)
    return []


def golden(code: str) -> str:
    """The golden text of a code."""
    return "\n".join(render(fault, CODES[code].wrong) for fault in faults(code, CODES[code].wrong)) + "\n"


@pytest.mark.parametrize("code", SHOWN)
def test_the_wrong_example_shows_its_code_alone(code: str):
    """An example of one fault has no other, and each is positioned."""
    found = faults(code, CODES[code].wrong)
    assert {fault.code for fault in found} == {code}
    assert all(fault.span is not None for fault in found)


@pytest.mark.parametrize("code", SHOWN)
def test_the_wrong_example_prints_the_golden_text(code: str):
    """What people read changes only on purpose."""
    assert golden(code) == (GOLDEN / f"{code}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", SHOWN)
def test_the_mended_example_is_fine(code: str):
    """The advice works."""
    assert faults(code, CODES[code].fixed) == []


def test_no_golden_file_is_left_over():
    """Every golden file belongs to a code."""
    assert sorted(re.sub(r"\.txt$", "", path.name) for path in GOLDEN.iterdir()) == sorted(SHOWN)


if __name__ == "__main__":
    for name in SHOWN:
        (GOLDEN / f"{name}.txt").write_text(golden(name), encoding="utf-8")
