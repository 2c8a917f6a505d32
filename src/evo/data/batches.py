"""Batches of bytes: a training batch is a pure function of (stream, step), held-out batches are one fixed cover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from evo.base.streams import Stream
from evo.data.corpus import Corpus, CorpusError

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


def training_batch(corpus: Corpus, step: int, batch: int, context: int, stream: Stream) -> Batch:
    """Inputs and targets of one step: int64 arrays of shape (batch, context), targets one byte ahead of inputs.

    Windows start anywhere in the training text, uniformly. Equal (stream, step) give equal batches, and the windows
    of a smaller batch are the first ones of a larger batch. Raises `CorpusError` if the training text is shorter than
    a window.
    """
    return windows(corpus.train, training_starts((corpus,), step, batch, context, stream), context)


def training_starts(
    corpora: Sequence[Corpus], step: int, batch: int, context: int, stream: Stream
) -> NDArray[np.int64]:
    """Where in the training texts, put one after another, the windows of a step start, (batch,) int64.

    Window i of a step is of text (step batch + i) modulo their number, and lies within it.
    """
    for corpus in corpora:
        _check_length(corpus, corpus.train, "training", context)
    sizes = np.array([len(corpus.train) for corpus in corpora])
    turns = (step * batch + np.arange(batch)) % len(sizes)
    draws = stream.child("batch", step).numpy()
    return (sizes.cumsum() - sizes)[turns] + draws.integers(0, sizes[turns] - context)


def held_out_batches(corpus: Corpus, context: int, tokens: int, batch: int = 16) -> Iterator[Batch]:
    """A fixed cover of the held-out text: about `tokens` targets in windows of `context`, `batch` windows at a time.

    Yields int64 arrays of shape (rows, context); the last batch may have fewer rows. Windows never overlap and are
    spread evenly over the text; at least one is given, and never more than there are. Raises `CorpusError` if the
    held-out text is shorter than a window.
    """
    _check_length(corpus, corpus.held_out, "held-out", context)
    available = (len(corpus.held_out) - 1) // context
    count = min(max(1, tokens // context), available)
    starts = np.arange(count) * available // count * context
    return (windows(corpus.held_out, starts[first : first + batch], context) for first in range(0, count, batch))


def held_out_tokens(corpus: Corpus, context: int, tokens: int) -> int:
    """How many targets `held_out_batches` scores for a budget of `tokens`."""
    available = (len(corpus.held_out) - 1) // context
    return min(max(1, tokens // context), available) * context


def require_windows(corpus: Corpus, context: int) -> None:
    """Raise `CorpusError` unless both sides of the text hold a window."""
    _check_length(corpus, corpus.train, "training", context)
    _check_length(corpus, corpus.held_out, "held-out", context)


def windows(text: NDArray[np.uint8], starts: NDArray[np.int64], context: int) -> Batch:
    """Inputs and targets of the windows that start at `starts` (rows,): (rows, context) int64 each."""
    rows = text[starts[:, None] + np.arange(context + 1)].astype(np.int64)
    return rows[:, :-1], rows[:, 1:]


def _check_length(corpus: Corpus, text: NDArray[np.uint8], side: str, context: int) -> None:
    if len(text) > context:
        return
    raise CorpusError(
        f"corpus '{corpus.name}' has {len(text):,} {side} bytes, too few for windows of {context:,}",
        "shorten train.context, or give more text",
    )
