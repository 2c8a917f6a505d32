"""What blocks keep between two chunks of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Self, cast

from torch import Tensor


class State:
    """What a block keeps between two chunks of a sequence. Frozen dataclasses."""

    def without(self, latest: int, seen: int) -> Self | None:
        """The state before the latest of `seen` positions; None where it does not say that any more."""
        del latest, seen
        return None

    def cut(self) -> Self:
        """The same, through which no gradient flows."""
        assert is_dataclass(self)
        return replace(self, **{field.name: _cut(getattr(self, field.name)) for field in fields(self)})


def _cut(kept: Any) -> Any:
    if isinstance(kept, Tensor):
        return kept.detach()
    if isinstance(kept, State):
        return kept.cut()
    if isinstance(kept, Mapping):
        return {name: _cut(item) for name, item in cast(Mapping[Any, Any], kept).items()}
    return tuple(map(_cut, cast(tuple[Any, ...], kept))) if isinstance(kept, tuple) else kept
