"""Batches: pure functions of stream and step, and a held-out cover that never changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.base.streams import Stream
from evo.data.batches import held_out_batches, held_out_tokens, training_batch
from evo.data.corpus import CorpusError, load_corpus, split_corpus

CORPUS = load_corpus("shakespeare")
STREAM = Stream(0).child("data")


def test_training_batch_is_pure() -> None:
    """The same stream and step give the same batch, in any order of calls; another step or seed gives another."""
    first = training_batch(CORPUS, 3, 4, 32, STREAM)
    training_batch(CORPUS, 9, 4, 32, STREAM)
    again = training_batch(CORPUS, 3, 4, 32, STREAM)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], training_batch(CORPUS, 4, 4, 32, STREAM)[0])
    assert not np.array_equal(first[0], training_batch(CORPUS, 3, 4, 32, Stream(1).child("data"))[0])


def test_training_batch_shapes_and_shift() -> None:
    """Inputs and targets are int64 (batch, context), targets one byte ahead, and every row is real training text."""
    inputs, targets = training_batch(CORPUS, 0, 5, 48, STREAM)
    assert inputs.shape == targets.shape == (5, 48)
    assert inputs.dtype == targets.dtype == np.int64
    assert np.array_equal(inputs[:, 1:], targets[:, :-1])
    text = CORPUS.train.tobytes()
    assert all(bytes(row.tolist()) in text for row in targets)


def test_training_reaches_both_ends() -> None:
    """The shortest corpus that has one window gives it, and two windows are both drawn in the end."""
    corpus = split_corpus("mine", bytes(range(256)) * 16)
    context = len(corpus.train) - 2
    firsts = {int(training_batch(corpus, step, 1, context, STREAM)[0][0, 0]) for step in range(40)}
    assert firsts == {0, 1}


def test_smaller_batches_are_prefixes() -> None:
    """Halving the batch keeps its first windows, so that a batch mutation compares like with like."""
    small, large = training_batch(CORPUS, 1, 4, 16, STREAM)[0], training_batch(CORPUS, 1, 8, 16, STREAM)[0]
    assert np.array_equal(small, large[:4])


@settings(deadline=None)
@given(st.integers(1, 4096), st.integers(1, 200_000), st.integers(1, 40))
def test_held_out_cover_is_even_and_disjoint(context: int, tokens: int, batch: int) -> None:
    """Held-out windows stay within the budget (or are one), never overlap, and are counted exactly."""
    batches = list(held_out_batches(CORPUS, context, tokens, batch))
    rows = sum(len(inputs) for inputs, _ in batches)
    assert rows * context == held_out_tokens(CORPUS, context, tokens)
    assert rows == 1 or rows * context <= tokens
    assert rows * context <= len(CORPUS.held_out) - 1
    assert all(inputs.shape == targets.shape == (len(inputs), context) for inputs, targets in batches)


def test_held_out_cover_of_everything() -> None:
    """With tokens to spare, every held-out target is scored once, in order."""
    targets = np.concatenate([targets.ravel() for _, targets in held_out_batches(CORPUS, 64, 10**9)])
    assert np.array_equal(targets, CORPUS.held_out[1 : 1 + len(targets)])
    assert len(CORPUS.held_out) - len(targets) <= 64


def test_windows_too_long_are_explained() -> None:
    """A context longer than the text is a CorpusError, for training and for held-out text."""
    corpus = split_corpus("mine", b"x" * 5000)
    with pytest.raises(CorpusError, match="training bytes"):
        training_batch(corpus, 0, 1, 10_000, STREAM)
    with pytest.raises(CorpusError, match="held-out bytes"):
        held_out_batches(corpus, 10_000, 1)
