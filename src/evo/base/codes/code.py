"""What one diagnostic code is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Source = Literal["document", "patch", "command"]

DOCUMENT = """\
evo: 1
organism:
  width: 64
  stages:
    - name: body
      mix: {kind: attention, heads: 2}
"""
"""The shortest document, which examples break."""


def broken(old: str, new: str) -> tuple[str, str]:
    """That document with a part of its text replaced, and as it is: an example of a fault, and fixed."""
    return DOCUMENT.replace(old, new), DOCUMENT


@dataclass(frozen=True)
class Code:
    """One kind of fault, with the smallest input that shows it and the same input fixed.

    source: whether a document or a patch shows it, or only a command can raise it (no file, a wrong device), in which
    case `wrong` and `fixed` are command lines, or empty.
    """

    title: str
    explanation: str
    wrong: str = ""
    fixed: str = ""
    source: Source = "document"

    def to_data(self) -> dict[str, Any]:
        """The entry as plain data, for `--json`."""
        return asdict(self)
