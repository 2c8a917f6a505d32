"""Launches kept for calls alike, so that Triton does not look at each argument again.

`kernel[grid](...)` finds the compiled kernel by the type, alignment and value of some forty arguments, which costs the
host more than the launch itself. What it finds depends on nothing but what `specialization_key` tells of the tensors
and on the numbers passed along; so the first launch of a `LaunchKey` chooses tiles, loads and compiled code, and later
ones send the compiled kernel itself, as Triton's tutorial on the fused softmax does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

Source = Callable[[Tensor, int], Any]


def specialization_key(*tensors: Tensor | None) -> tuple:
    """All that a compiled kernel and a grid depend on, of tensors of which some may be missing."""
    return tuple(
        None if x is None else (x.dtype, x.shape, x.stride(), x.data_ptr() % 16, x.device.index) for x in tensors
    )


class Launch:
    """A kernel with its grid and all its arguments but the leading tensors (or descriptors, or None), by name.

    Each call must give tensors of the same `specialization_key` on the same device.
    """

    def __init__(self, kernel: Any, grid: tuple[int], named: dict[str, Any]) -> None:
        self._kernel, self._grid, self._named = kernel[grid], grid, named
        self._names = kernel.arg_names
        self._again: Any = None

    def __call__(self, *tensors: Any) -> None:
        if self._again is None:
            compiled = self._kernel(*tensors, **self._named)
            if compiled is not None:  # the interpreter compiles nothing
                self._rest = [self._named[name] for name in self._names[len(tensors) :]]
                self._again = compiled[(*self._grid, 1, 1)]
        else:
            self._again(*tensors, *self._rest)


@dataclass
class CachedLaunch:
    """Rows of a tile of each loaded tensor, what tiles are loaded from, and the launch, once there is one."""

    launch: Launch | None = None
    rows: tuple[int, ...] = ()
    source: Source | None = None


class LaunchCache:
    """The launches of a backend's kernels, the least recently used forgotten first.

    of(kernel, key): the one `CachedLaunch` of a kernel's name and of all that decides on code and arguments, addresses
    left out.
    """

    def __init__(self, size: int) -> None:
        self.of = lru_cache(maxsize=size)(_empty)

    def clear(self) -> None:
        """Forget all."""
        self.of.cache_clear()


def _empty(kernel: str, key: tuple) -> CachedLaunch:
    return CachedLaunch()
