"""What a device would be given to do: operations, counted on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

NOTHING = frozenset(
    ("alias", "as_strided", "detach", "empty", "empty_like", "expand", "lift_fresh", "permute", "select", "slice",
     "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view", "_unsafe_view")
)  # fmt: skip
"""Operations that launch nothing: views, and memory that nobody fills."""


class Launches(TorchDispatchMode):
    """Counts operations by name: those on the way, and those aside, in the blocks of `within`."""

    def __init__(self) -> None:
        super().__init__()
        self.on_the_way, self.aside = Counter[str](), Counter[str]()
        self._is_aside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in NOTHING:
            (self.aside if self._is_aside else self.on_the_way)[name] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def within(self, *reads: Any) -> Iterator[None]:
        """In place of `SideStream.launch`."""
        del reads
        self._is_aside = True
        yield
        self._is_aside = False
