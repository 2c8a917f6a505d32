"""The next byte of a text: windows of the corpus, scored in bits per byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.digest import digest_data
from evo.base.streams import Stream
from evo.data.batches import held_out_batches, require_windows, training_starts, windows
from evo.data.corpus import Corpus, CorpusError, load_corpus
from evo.dsl.task import Score
from evo.kernels.fused import gather_sequences
from evo.tasks.base import Batch, Predict
from evo.tasks.bytes.plausible import is_plausible
from evo.tasks.bytes.spec import BytesSpec
from evo.tasks.held_out import BATCH_TOKENS, bits_per_byte


def open_bytes(spec: BytesSpec, root: Path) -> BytesTask:
    """The task of a spec; the texts are read when they are first needed."""
    return BytesTask(*(partial(read_corpus, corpus, root) for corpus in spec.corpus), given=spec.given)


class BytesTask:
    """See `Task`. Token i is byte i.

    reads: each gives a text; called once at most. given: how many bytes of a window are not predicted.
    """

    vocab, start = 256, ord("\n")
    primary: Score = BytesSpec.primary

    def __init__(self, *reads: Callable[[], Corpus], given: int = 0) -> None:
        self._reads, self.given = reads, given
        self.token_bytes = torch.ones(self.vocab, dtype=torch.int64)

    @cached_property
    def corpora(self) -> tuple[Corpus, ...]:
        """The texts."""
        return tuple(read() for read in self._reads)

    @property
    def name(self) -> str:
        """The names of the corpora."""
        return "+".join(corpus.name for corpus in self.corpora)

    @property
    def digest(self) -> str:
        """The corpus's digest, or one of all of them."""
        digests = [corpus.digest for corpus in self.corpora]
        texts = digests[0] if len(digests) == 1 else digest_data(digests)
        return digest_data([texts, self.given]) if self.given else texts

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the texts."""
        return tuple(warning for corpus in self.corpora for warning in corpus.warnings)

    def describe(self) -> str:
        """The names and sizes of the corpora."""
        return "; ".join(
            f"corpus {corpus.name} ({len(corpus.train):,} bytes to train on, {len(corpus.held_out):,} held out)"
            for corpus in self.corpora
        )

    def require(self, context: int) -> None:
        """Raise DiagnosticError (EVO501) unless both sides of each text hold a window."""
        try:
            for corpus in self.corpora:
                require_windows(corpus, context)
        except CorpusError as error:
            raise _diagnostic("EVO501", error) from None

    def batch(self, step: int, rows: int, context: int, stream: Stream) -> Batch:
        """Windows that start anywhere in the training texts; see `training_starts`."""
        starts = training_starts(self.corpora, step, rows, context, stream)
        inputs, targets = windows(self.train, starts, context)
        return weighed(torch.from_numpy(inputs), torch.from_numpy(targets), self.given)

    @cached_property
    def train(self) -> NDArray[np.uint8]:
        """The training texts, one after another."""
        texts = [corpus.train for corpus in self.corpora]
        return texts[0] if len(texts) == 1 else np.concatenate(texts)

    def on_device(self, device: torch.device) -> DeviceText:
        """The training texts on the device."""
        return DeviceText(self, device)

    def held_out(self, context: int, tokens: int, rows: int) -> Iterator[Batch]:
        """Windows spread evenly over the held-out texts, an equal share each; see `held_out_batches`."""
        for corpus in self.corpora:
            yield from self._held_out(corpus, context, tokens, rows)

    def sides(self) -> tuple[BytesTask, BytesTask]:
        """One with the first half of each held-out text, one with the second."""
        return self._with_half(0), self._with_half(1)

    def score(self, predict: Predict, context: int, tokens: int) -> dict[str, float]:
        """Bits per byte, the mean over the texts; of several texts also that of each, as `bits_per_byte.TEXT`.

        Every window starts without memory, so its first bytes are the hardest.
        """
        rows = max(1, BATCH_TOKENS // context)
        bits = [
            bits_per_byte(predict, self._held_out(corpus, context, tokens, rows), self.token_bytes)
            for corpus in self.corpora
        ]
        names = [f"{self.primary.name}.{corpus.name}" for corpus in self.corpora]
        parts = dict(zip(names, bits, strict=True)) if len(bits) > 1 else {}
        return {self.primary.name: sum(bits) / len(bits), **parts}

    def is_plausible(self, value: float) -> bool:
        """Whether a model may need so few bits per byte of these texts."""
        held_out = b"".join(corpus.held_out.tobytes() for corpus in self.corpora)
        return is_plausible(value, self.train.tobytes(), held_out)

    def _with_half(self, side: int) -> BytesTask:
        half = [partial(_half, self, index, side) for index in range(len(self._reads))]
        return BytesTask(*half, given=self.given)

    def _held_out(self, corpus: Corpus, context: int, tokens: int, rows: int) -> Iterator[Batch]:
        for inputs, targets in held_out_batches(corpus, context, max(1, tokens // len(self.corpora)), rows):
            yield weighed(torch.from_numpy(inputs), torch.from_numpy(targets), self.given)

    def encode(self, text: bytes) -> list[int]:
        """Its bytes."""
        return list(text)

    def decode(self, tokens: Iterable[int]) -> bytes:
        """Those bytes."""
        return bytes(tokens)


class DeviceText:
    """The training texts on a device, from which windows are cut. See `DeviceSource`."""

    def __init__(self, task: BytesTask, device: torch.device) -> None:
        self.corpora, self.given = task.corpora, task.given
        self.text = torch.from_numpy(task.train.copy()).to(device)

    def draw(self, step: int, rows: int, context: int, stream: Stream) -> Tensor:
        """Where the step's windows start, (rows,) int64."""
        return torch.from_numpy(training_starts(self.corpora, step, rows, context, stream))

    def batch(self, drawn_S: Tensor, row_1: Tensor, context: int) -> Batch:
        """The windows from the starts drawn_S[row_1] on, drawn_S (S, B) int64."""
        return weighed(*gather_sequences(self.text, drawn_S, row_1, context), self.given)


def weighed(inputs_BT: Tensor, targets_BT: Tensor, given: int) -> Batch:
    """A batch in which targets among the first `given` tokens count nothing."""
    if not given:
        return Batch(inputs_BT, targets_BT)
    counts_T = torch.arange(1, targets_BT.shape[1] + 1, device=targets_BT.device) >= given
    return Batch(inputs_BT, targets_BT, counts_T.float().expand(targets_BT.shape))


def _half(task: BytesTask, index: int, side: int) -> Corpus:
    """A text of a task with a half of what it holds out."""
    corpus = task.corpora[index]
    middle = len(corpus.held_out) // 2
    return replace(corpus, held_out=corpus.held_out[middle:] if side else corpus.held_out[:middle])


def read_corpus(corpus: str, root: Path) -> Corpus:
    """A text by its name or path. Raises DiagnosticError if it cannot be had (EVO500)."""
    try:
        return load_corpus(corpus, root)
    except CorpusError as error:
        raise _diagnostic("EVO500", error) from None


def _diagnostic(code: str, error: CorpusError) -> DiagnosticError:
    return DiagnosticError([Diagnostic(code, error.message, None, error.help)])
