"""Files that come with evo beside its code: examples and schemas, from the wheel or from a clone of the repository."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """The folder of that name: `examples` or `dsl_schemas`."""
    installed = PACKAGE / "shipped" / name
    return installed if installed.is_dir() else PACKAGE.parents[1] / name
