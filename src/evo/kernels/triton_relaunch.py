"""Launching a Triton kernel again without Triton looking at each of its arguments again.

`kernel[grid](...)` finds the compiled kernel by the type, alignment and value of some forty arguments, which costs the
host more than the launch itself. What it finds depends on nothing but what `facts` tells of the tensors and on the
numbers passed along; a caller that keeps a `Launch` for each of those sends the compiled kernel itself, as Triton's
tutorial on the fused softmax does.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def facts(*tensors: Tensor | None) -> tuple:
    """All that a compiled kernel and a grid depend on, of tensors of which some may be missing."""
    return tuple(
        None if x is None else (x.dtype, x.shape, x.stride(), x.data_ptr() % 16, x.device.index) for x in tensors
    )


class Launch:
    """A kernel with its grid and all its arguments but the leading tensors (or descriptors, or None), by name.

    Each call must give tensors of the same `facts` on the same device.
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
