"""TensorBoard: event files beside the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evo.training.trackers.base import Tracked
from evo.training.trackers.spec import TensorBoardSpec


class _EventFiles:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def note(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def begin(spec: TensorBoardSpec, tracked: Tracked) -> _EventFiles:
    """A writer of event files."""
    del spec
    from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportMissingImports]

    return _EventFiles(SummaryWriter(str(tracked.folder)))
