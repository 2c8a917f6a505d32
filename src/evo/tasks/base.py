"""What every task is: where batches come from, how a model is scored, and which token stands for which bytes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evo.base.streams import Stream
from evo.dsl.task import Score, TaskSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Predict = Callable[["Tensor"], "Tensor"]
"""A model: tokens (B, T) int64 to logits (B, T, V). It takes them from any device to its own."""


@dataclass(frozen=True)
class Batch:
    """Tokens in and tokens out.

    inputs_BT, targets_BT: int64, the target of each position. weights_BT: float32, how much each target counts, 0 for
    one that is ignored; None where all count alike. A loss is the mean over targets by weight.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        weights_BT = self.weights_BT
        return Batch(
            self.inputs_BT.to(device, non_blocking=True),
            self.targets_BT.to(device, non_blocking=True),
            None if weights_BT is None else weights_BT.to(device, non_blocking=True),
        )


class DeviceSource(Protocol):
    """Batches made on the device from a few numbers a step, so that a captured step needs nothing from the host."""

    def draw(self, step: int, rows: int, context: int, stream: Stream) -> Tensor:
        """What names the batch of a step: a tensor on the host whose shape and dtype are those of every step."""
        ...

    def batch(self, drawn_S: Tensor, row_1: Tensor, context: int) -> Batch:
        """The batch that `drawn_S[row_1]` names, equal to `Task.batch` of its step, with no look at the host.

        drawn_S: draws of several steps, stacked, on the device. row_1: (1,) int64 on the device.
        """
        ...


class Task(Protocol):
    """One task, opened. Reading what it learns from may wait until it is needed.

    Any access may raise DiagnosticError where that cannot be read (EVO500).
    """

    @property
    def vocab(self) -> int:
        """How many token ids there are."""
        ...

    @property
    def primary(self) -> Score:
        """The score that models are compared by."""
        ...

    @property
    def token_bytes(self) -> Tensor | None:
        """(vocab,) int64: how many bytes of text each token stands for; None where tokens are no text."""
        ...

    @property
    def name(self) -> str:
        """What it learns from, in a word."""
        ...

    @property
    def digest(self) -> str:
        """A name of all that batches and scores depend on besides their arguments."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user."""
        ...

    def describe(self) -> str:
        """What it learns from and how much of it there is, for a person."""
        ...

    def require(self, context: int) -> None:
        """Raise DiagnosticError unless there are windows of `context` tokens on both sides (EVO501)."""
        ...

    def batch(self, step: int, rows: int, context: int, stream: Stream) -> Batch:
        """What a training step sees, on the host: a pure function of its arguments."""
        ...

    def on_device(self, device: torch.device) -> DeviceSource | None:
        """The same batches made on a device; None where that cannot be, and steps are not captured then."""
        ...

    def held_out(self, context: int, tokens: int, rows: int) -> Iterator[Batch]:
        """A fixed cover of what no training step sees: about `tokens` targets, at most `rows` windows at a time."""
        ...

    def sides(self) -> tuple[Task, Task]:
        """Two of the same that hold out disjoint parts of what this one does: for a search, and for its verdict."""
        ...

    def score(self, predict: Predict, context: int, tokens: int) -> dict[str, float]:
        """Scores on about `tokens` held-out targets by name, `primary` first; NaN where the model's logits are not
        finite."""
        ...

    @property
    def start(self) -> int:
        """The token that sampling starts from where there is no prompt."""
        ...

    def encode(self, text: bytes) -> list[int]:
        """The tokens of some text."""
        ...

    def decode(self, tokens: Iterable[int]) -> bytes:
        """The text of some tokens; joined pieces give the text of the whole."""
        ...


def open_task(spec: TaskSpec, root: Path) -> Task:
    """The task of a spec. root: the folder that relative paths in the spec start from."""
    module, _, name = spec.builder.partition(":")
    return getattr(importlib.import_module(module), name)(spec, root)
