"""Tasks whose sequences are drawn by a rule: a finite set to train on, another that is held out, seeded.

A kind's own class says how sequences are drawn; everything else of `Task` is here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.digest import digest_data
from evo.base.streams import Stream
from evo.dsl.canonical import to_data
from evo.dsl.task import Score
from evo.tasks.base import Batch, Predict
from evo.tasks.held_out import BATCH_TOKENS, IGNORED
from evo.tasks.synthetic_spec import SyntheticSpec

HELD_OUT_EXAMPLES = 1_280
VERSION = 1
"""Of how sequences are drawn; part of every digest."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sequences:
    """inputs_NT: symbols. targets_NT: what each position is asked for, `IGNORED` (-100) where nothing is."""

    inputs_NT: Ints
    targets_NT: Ints


class SyntheticTask(ABC):
    """See `Task`. A batch's rows are drawn with replacement from the training sequences."""

    token_bytes: Tensor | None = None
    start = 0
    warnings: tuple[str, ...] = ()
    held = range(HELD_OUT_EXAMPLES)
    """Which of the held-out sequences this one has."""

    def __init__(self, spec: Any, root: Path) -> None:
        del root
        self.spec = spec
        self.vocab: int = spec.smallest_vocab
        self.primary: Score = spec.primary

    @property
    def shortest(self) -> int:
        """The fewest tokens that a sequence can have."""
        return 3

    @abstractmethod
    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """`count` sequences of `context` tokens. What is asked may be less than what is trained on."""

    @property
    def name(self) -> str:
        """The kind."""
        return self.spec.label

    @property
    def digest(self) -> str:
        """Of the rule's settings."""
        return digest_data([VERSION, to_data(self.spec)])

    def describe(self) -> str:
        """How many sequences there are, and of how many symbols."""
        return f"{self.name} ({self.spec.examples:,} sequences of {self.vocab:,} symbols, drawn with {self.spec.draw})"

    def require(self, context: int) -> None:
        """Raise DiagnosticError (EVO501) unless a sequence fits into the context."""
        if context >= self.shortest:
            return
        message = f"a sequence of {self.name} takes {self.shortest} tokens, the context is {context}"
        raise DiagnosticError([Diagnostic("EVO501", message, None, "lengthen the context, or ask for less")])

    def batch(self, step: int, rows: int, context: int, stream: Stream) -> Batch:
        """Rows of the training sequences."""
        return _batch(self._drawn(context, True), torch.from_numpy(self.rows(step, rows, stream)))

    def rows(self, step: int, rows: int, stream: Stream) -> Ints:
        """Which of the training sequences a step sees, (rows,)."""
        return stream.child("batch", step).numpy().integers(self.spec.examples, size=rows)

    def on_device(self, device: torch.device) -> DeviceSequences:
        """The training sequences on the device."""
        return DeviceSequences(self, device)

    def held_out(self, context: int, tokens: int, rows: int) -> Iterator[Batch]:
        """The first of the held-out sequences."""
        drawn = self._drawn(context, False)
        taken = self.held[: max(1, tokens // context)]
        batches = (taken[at : at + rows] for at in range(0, len(taken), rows))
        return (_batch(drawn, torch.arange(own.start, own.stop)) for own in batches)

    def sides(self) -> tuple[Self, Self]:
        """One with the first half of the held-out sequences, one with the second."""
        return self._with(self.held[: len(self.held) // 2]), self._with(self.held[len(self.held) // 2 :])

    def _with(self, held: range) -> Self:
        other = copy(self)
        other.held = held
        return other

    @torch.no_grad()
    def score(self, predict: Predict, context: int, tokens: int) -> dict[str, float]:
        """The share of asked targets that get the highest logit, and the mean of -log2 p."""
        hits, nats, count = 0.0, 0.0, 0.0
        for batch in self.held_out(context, tokens, max(1, BATCH_TOKENS // context)):
            logits_NV, targets_N = asked(predict(batch.inputs_BT), batch)
            if not bool(logits_NV.isfinite().all()):
                return {self.primary.name: math.nan, "bits_per_target": math.nan}
            hits += float((logits_NV.argmax(-1) == targets_N).sum())
            nats += float(F.cross_entropy(logits_NV, targets_N, reduction="sum"))
            count += len(targets_N)
        return {self.primary.name: hits / count, "bits_per_target": nats / count / math.log(2)}

    def encode(self, text: bytes) -> list[int]:
        """Numbers with blanks between them. Raises DiagnosticError (EVO524) for what is no symbol of this task."""
        words = text.split()
        wrong = [word for word in words if not word.isdigit() or int(word) >= self.vocab]
        if wrong:
            message = f"'{wrong[0].decode(errors='replace')}' is no symbol of {self.name}"
            raise DiagnosticError([Diagnostic("EVO524", message, None, f"numbers from 0 to {self.vocab - 1}")])
        return [int(word) for word in words]

    def decode(self, tokens: Iterable[int]) -> bytes:
        """Numbers, each with a blank behind it."""
        return b"".join(b"%d " % token for token in tokens)

    def _drawn(self, context: int, is_training: bool) -> tuple[Tensor, Tensor]:
        self.require(context)
        return _drawn(type(self), self.spec, context, is_training)


class DeviceSequences:
    """The training sequences on a device, from which rows are taken. See `DeviceSource`."""

    def __init__(self, task: SyntheticTask, device: torch.device) -> None:
        self.task, self.device = task, device
        self.held: tuple[int, tuple[Tensor, Tensor]] | None = None

    def draw(self, step: int, rows: int, context: int, stream: Stream) -> Tensor:
        """Which sequences, (rows,) int64."""
        self._sequences(context)
        return torch.from_numpy(self.task.rows(step, rows, stream))

    def batch(self, drawn_S: Tensor, row_1: Tensor, context: int) -> Batch:
        """Those sequences."""
        return _batch(self._sequences(context), drawn_S.index_select(0, row_1)[0])

    def _sequences(self, context: int) -> tuple[Tensor, Tensor]:
        if self.held is None or self.held[0] != context:
            inputs_NT, targets_NT = self.task._drawn(context, True)
            self.held = context, (inputs_NT.to(self.device), targets_NT.to(self.device))
        return self.held[1]


def asked(logits_BTV: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The logits (N, V) float32 and targets (N,) of the positions that count."""
    targets_BT = batch.targets_BT.to(logits_BTV.device)
    if batch.weights_BT is None:
        return logits_BTV.flatten(0, 1).float(), targets_BT.flatten()
    counts_BT = batch.weights_BT.to(logits_BTV.device) > 0
    return logits_BTV[counts_BT].float(), targets_BT[counts_BT]


def next_tokens(tokens_NT: Ints, answers_NT: Ints, is_training: bool) -> Sequences:
    """Sequences in which each token asks for the next one: all of them in training, else those that are answers.

    tokens_NT, answers_NT: (N, T + 1); an answer is the token itself, or `IGNORED`.
    """
    targets_NT = tokens_NT if is_training else answers_NT
    return Sequences(tokens_NT[:, :-1], targets_NT[:, 1:])


@lru_cache(maxsize=8)
def _drawn(cls: type[SyntheticTask], spec: SyntheticSpec, context: int, is_training: bool) -> tuple[Tensor, Tensor]:
    """All sequences of a side, (N, T) int32 each: a search opens its task for every candidate."""
    rng = Stream(spec.draw).child(spec.label, "training" if is_training else "held out", context).numpy()
    count = spec.examples if is_training else HELD_OUT_EXAMPLES
    found = cls(spec, Path()).sequences(rng, count, context, is_training)
    inputs_NT, targets_NT = (torch.from_numpy(array.astype(np.int32)) for array in (found.inputs_NT, found.targets_NT))
    assert inputs_NT.shape == targets_NT.shape == (count, context)
    return inputs_NT, targets_NT


def _batch(drawn: tuple[Tensor, Tensor], rows_B: Tensor) -> Batch:
    inputs_BT, targets_BT = (tensor.index_select(0, rows_B).long() for tensor in drawn)
    return Batch(inputs_BT, targets_BT.clamp_min(0), (targets_BT != IGNORED).float())
