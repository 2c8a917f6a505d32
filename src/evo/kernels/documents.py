"""Documents packed one after another into a sequence: where each begins, and which token is in which."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def check_segments(segments_BT: Tensor, shape: tuple[int, ...], name: str = "segments_BT") -> None:
    """Raises ValueError unless the ids are integers of this shape, (B, T)."""
    if segments_BT.shape != shape or segments_BT.is_floating_point():
        raise ValueError(
            f"{name} must be integers {tuple(shape)}, found {segments_BT.dtype} {tuple(segments_BT.shape)}"
        )


def document_starts(segments_BT: Tensor) -> Tensor:
    """Boolean (B, T): the id differs from that of the token before. The first token continues what was before it."""
    changes = segments_BT[:, 1:] != segments_BT[:, :-1]
    return torch.nn.functional.pad(changes, (1, 0)) if segments_BT.shape[1] else changes


def document_numbers(segments_BT: Tensor) -> Tensor:
    """int32 (B, T): documents counted from 0, so that an id that returns names a new one."""
    return document_starts(segments_BT).cumsum(1, dtype=torch.int32)


def apart(f: Callable[[Tensor], Tensor], x_BTD: Tensor, segments_BT: Tensor) -> Tensor:
    """What a function of (1, n, D) gives each document by itself, at its place: (B, T, D). It waits for a GPU."""
    rows: list[Tensor] = []
    for x_TD, numbers_T in zip(x_BTD, document_numbers(segments_BT), strict=True):
        documents = x_TD[None].split(torch.bincount(numbers_T).tolist(), dim=1)
        rows.append(torch.cat([f(x_1ND) for x_1ND in documents], dim=1))
    return torch.cat(rows)
