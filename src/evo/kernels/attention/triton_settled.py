"""Launches of attention kernels; the first one of a problem settles tiles, loads and compiled code for later ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from evo.kernels.attention.triton_call import Call, Extras, bias_strides, described, is_described, strides, whole
from evo.kernels.attention.triton_sizes import Tiles, preferred
from evo.kernels.triton_relaunch import Launch

Source = Callable[[Tensor, int], Any]


@dataclass(frozen=True)
class Problem:
    """One call's tensors and numbers. `key` holds all that decides on code and arguments, addresses left out."""

    call: Call
    extras: Extras
    key: tuple


@dataclass
class Settled:
    """How many rows of each loaded tensor make a tile, what tiles are loaded from, and the launch."""

    launch: Launch | None = None
    rows: tuple[int, ...] = ()
    source: Source = whole


@lru_cache(maxsize=1024)
def settled(kernel: str, key: tuple) -> Settled:
    """The one `Settled` of a kernel and a problem."""
    return Settled()


def launch(
    name: str, kernel: Any, problem: Problem, loaded: tuple[Tensor, ...], given: tuple, made: tuple,
    programs: Callable[[Tiles], int], **more: int,
) -> None:  # fmt: skip
    """Launch `kernel`, by `name` in the table of tiles, in as many `programs` as its tiles need.

    Its arguments are `loaded`, that is q, k, v and in the backward the output's gradient; what it reads besides, the
    bias last; what it writes; strides, numbers and constants that all kernels take; and `more` by name.
    """

    def tensors(rows: tuple[int, ...], source: Source) -> list:
        return [*map(source, loaded, rows), *given, *made]

    known = settled(name, problem.key)
    if known.launch is not None:
        known.launch(*tensors(known.rows, known.source))
        return
    q, k, v, *_ = loaded
    source = described if is_described(*loaded) else whole
    parts = problem.call.parts(q, k, v, problem.extras) | {"DESCRIBED": source is described} | more
    rest = strides(*loaded) | bias_strides(given[-1]) | problem.call.numbers() | parts
    rest |= {"H": q.shape[2], "T": q.shape[1], "S": k.shape[1]}

    def begin(tiles: Tiles) -> Launch:
        begun = Launch(kernel, (programs(tiles),), rest | tiles.options())
        begun(*tensors(rows_of(tiles), source))
        return begun

    tiles = preferred(name, q, parts, begin)
    known.rows, known.source = rows_of(tiles), source
    known.launch = begin(tiles)


def rows_of(tiles: Tiles) -> tuple[int, ...]:
    """Of q, k, v and the output's gradient."""
    return tiles.M, tiles.N, tiles.N, tiles.M
