"""What one diagnostic code is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Source = Literal["document", "patch", "command"]


@dataclass(frozen=True)
class Code:
    """One kind of fault, with the smallest input that shows it and the same input mended.

    source: whether a document or a patch shows it, or only a command can raise it (no file, a wrong device), in which
    case `wrong` and `mended` are command lines, or empty.
    """

    title: str
    explanation: str
    wrong: str = ""
    mended: str = ""
    source: Source = "document"

    def to_data(self) -> dict[str, Any]:
        """The entry as plain data, for `--json`."""
        return asdict(self)
