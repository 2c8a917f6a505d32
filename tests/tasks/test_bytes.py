"""The task of bytes: windows of a corpus, in the same batches everywhere, read when somebody asks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.data.batches import held_out_batches, training_batch
from evo.data.corpus import load_corpus
from evo.dsl.index import kind_class
from evo.tasks.base import Batch, Task, open_task
from evo.tasks.bytes.spec import BytesSpec

CORPUS, STREAM = load_corpus("shakespeare"), Stream(3).child("data")


def opened(corpus: str = "shakespeare", root: Path = Path()) -> Task:
    """The task of a corpus."""
    return open_task(BytesSpec(corpus=corpus), root)


def same(batch: Batch, arrays: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether a batch has these inputs and targets, all of which count."""
    tensors = batch.inputs_BT, batch.targets_BT
    is_equal = all(torch.equal(one, torch.from_numpy(two)) for one, two in zip(tensors, arrays, strict=True))
    return is_equal and batch.weights_BT is None


def test_batches_are_windows_of_the_corpus() -> None:
    """Training and held-out batches are byte for byte those of the corpus, and name it by its digest."""
    task = opened()
    assert same(task.batch(7, 3, 20, STREAM), training_batch(CORPUS, 7, 3, 20, STREAM))
    pairs = zip(task.held_out(20, 300, 4), held_out_batches(CORPUS, 20, 300, 4), strict=True)
    assert [same(batch, arrays) for batch, arrays in pairs] == [True] * 4
    assert (task.name, task.digest, task.vocab) == ("shakespeare", CORPUS.digest, 256)


def test_the_text_is_read_when_it_is_needed(tmp_path: Path) -> None:
    """Opening, encoding and decoding need no text; everything else says which one is missing, with EVO500."""
    task = opened("own.txt", tmp_path)
    assert task.decode(task.encode(b"any \xff bytes")) == b"any \xff bytes"
    for ask in (lambda: task.digest, lambda: task.require(8), lambda: task.batch(0, 1, 8, STREAM)):
        with pytest.raises(DiagnosticError, match=r"EVO500 no corpus 'own\.txt'"):
            ask()
    (tmp_path / "own.txt").write_bytes(b"words and more " * 400)
    task.require(8)
    with pytest.raises(DiagnosticError, match=r"EVO501 corpus 'own\.txt' has 1,500 held-out bytes"):
        task.require(1_500)


def test_it_is_the_default_and_says_how_it_is_scored() -> None:
    """Bits per byte, fewer are better, eight for a model that knows nothing."""
    spec = kind_class("task", "bytes")()
    assert isinstance(spec, BytesSpec)
    score = spec.primary
    assert (score.name, score.label, score.uniform) == ("bits_per_byte", "bits per byte", 8.0)
    assert score.cost(2.0) < score.cost(3.0)
