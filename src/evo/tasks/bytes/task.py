"""The next byte of a text: windows of the corpus, scored in bits per byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.streams import Stream
from evo.data.batches import held_out_batches, require_windows, training_batch, training_starts
from evo.data.corpus import Corpus, CorpusError, load_corpus
from evo.dsl.task import Score
from evo.kernels.fused import gather_sequences
from evo.tasks.base import Batch, Predict
from evo.tasks.bytes.plausible import is_plausible
from evo.tasks.bytes.spec import BytesSpec
from evo.tasks.held_out import BATCH_TOKENS, bits_per_byte


def open_bytes(spec: BytesSpec, root: Path) -> BytesTask:
    """The task of a spec; the text is read when it is first needed."""
    return BytesTask(lambda: _read(spec.corpus, root))


class BytesTask:
    """See `Task`. Token i is byte i.

    read: gives the text; called once at most.
    """

    vocab, start = 256, ord("\n")
    primary: Score = BytesSpec.primary

    def __init__(self, read: Callable[[], Corpus]) -> None:
        self._read = read
        self.token_bytes = torch.ones(self.vocab, dtype=torch.int64)

    @cached_property
    def corpus(self) -> Corpus:
        """The text."""
        return self._read()

    @property
    def name(self) -> str:
        """The corpus's name."""
        return self.corpus.name

    @property
    def digest(self) -> str:
        """The corpus's digest."""
        return self.corpus.digest

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the text."""
        return self.corpus.warnings

    def describe(self) -> str:
        """The corpus's name and size."""
        train, held_out = len(self.corpus.train), len(self.corpus.held_out)
        return f"corpus {self.name} ({train:,} bytes to train on, {held_out:,} held out)"

    def require(self, context: int) -> None:
        """Raise DiagnosticError (EVO501) unless both sides of the text hold a window."""
        corpus = self.corpus
        try:
            require_windows(corpus, context)
        except CorpusError as error:
            raise _diagnostic("EVO501", error) from None

    def batch(self, step: int, rows: int, context: int, stream: Stream) -> Batch:
        """Windows that start anywhere in the training text; see `training_batch`."""
        inputs, targets = training_batch(self.corpus, step, rows, context, stream)
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))

    def on_device(self, device: torch.device) -> DeviceText:
        """The training text on the device."""
        return DeviceText(self.corpus, device)

    def held_out(self, context: int, tokens: int, rows: int) -> Iterator[Batch]:
        """Windows spread evenly over the held-out text; see `held_out_batches`."""
        for inputs, targets in held_out_batches(self.corpus, context, tokens, rows):
            yield Batch(torch.from_numpy(inputs), torch.from_numpy(targets))

    def score(self, predict: Predict, context: int, tokens: int) -> dict[str, float]:
        """Bits per byte. Every window starts without memory, so its first bytes are the hardest."""
        batches = self.held_out(context, tokens, max(1, BATCH_TOKENS // context))
        return {self.primary.name: bits_per_byte(predict, batches, self.token_bytes)}

    def is_plausible(self, value: float) -> bool:
        """Whether a model may need so few bits per byte of this text."""
        return is_plausible(value, self.corpus.train.tobytes(), self.corpus.held_out.tobytes())

    def encode(self, text: bytes) -> list[int]:
        """Its bytes."""
        return list(text)

    def decode(self, tokens: Iterable[int]) -> bytes:
        """Those bytes."""
        return bytes(tokens)


class DeviceText:
    """The training text on a device, from which windows are cut. See `DeviceSource`."""

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        self.corpus = corpus
        self.text = torch.from_numpy(corpus.train.copy()).to(device)

    def draw(self, step: int, rows: int, context: int, stream: Stream) -> Tensor:
        """Where the step's windows start, (rows,) int64."""
        return torch.from_numpy(training_starts(self.corpus, step, rows, context, stream))

    def batch(self, drawn_S: Tensor, row_1: Tensor, context: int) -> Batch:
        """The windows from the starts drawn_S[row_1] on, drawn_S (S, B) int64."""
        return Batch(*gather_sequences(self.text, drawn_S, row_1, context))


def _read(corpus: str, root: Path) -> Corpus:
    try:
        return load_corpus(corpus, root)
    except CorpusError as error:
        raise _diagnostic("EVO500", error) from None


def _diagnostic(code: str, error: CorpusError) -> DiagnosticError:
    return DiagnosticError([Diagnostic(code, error.message, None, error.help)])
