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


def opened(*corpus: str, root: Path = Path()) -> Task:
    """The task of some corpora."""
    return open_task(BytesSpec(corpus=corpus or ("shakespeare",)), root)


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
    task = opened("own.txt", root=tmp_path)
    assert task.decode(task.encode(b"any \xff bytes")) == b"any \xff bytes"
    for ask in (lambda: task.digest, lambda: task.require(8), lambda: task.batch(0, 1, 8, STREAM)):
        with pytest.raises(DiagnosticError, match=r"EVO500 no corpus 'own\.txt'"):
            ask()
    (tmp_path / "own.txt").write_bytes(b"words and more " * 400)
    task.require(8)
    with pytest.raises(DiagnosticError, match=r"EVO501 corpus 'own\.txt' has 1,500 held-out bytes"):
        task.require(1_500)


def test_several_corpora_share_rows_and_score(tmp_path: Path) -> None:
    """Rows are dealt to the texts in turn and stay within them; the score is the mean of each text's, told apart."""
    (tmp_path / "a.txt").write_bytes(b"a" * 9_000)
    (tmp_path / "b.txt").write_bytes(b"b" * 50_000)
    task = opened("a.txt", "b.txt", root=tmp_path)
    task.require(20)
    dealt = [[set(row.tolist()) for row in task.batch(step, 3, 20, STREAM).inputs_BT] for step in range(40)]
    assert [row for rows in dealt for row in rows] == [{ord("a")}, {ord("b")}] * 60
    source = task.on_device(torch.device("cpu"))
    assert source is not None
    drawn_S = torch.stack([source.draw(step, 3, 20, STREAM) for step in range(4)])
    batch = source.batch(drawn_S, torch.tensor([3]), 20)
    assert torch.equal(batch.inputs_BT, task.batch(3, 3, 20, STREAM).inputs_BT)
    held_out = torch.cat([batch.inputs_BT for batch in task.held_out(20, 400, 4)])
    assert held_out.unique(return_counts=True)[1].tolist() == [200, 200]

    def predict(tokens_BT: torch.Tensor) -> torch.Tensor:
        """Sure of a, and a uniform guess of all but a otherwise."""
        logits_BTV = torch.zeros(*tokens_BT.shape, 256)
        logits_BTV[..., ord("a")] = torch.where(tokens_BT == ord("a"), 99.0, -99.0)
        return logits_BTV

    scores = task.score(predict, 20, 400)
    names = ["bits_per_byte", "bits_per_byte.a.txt", "bits_per_byte.b.txt"]
    assert list(scores) == names
    assert [scores[name] for name in names] == pytest.approx([np.log2(255) / 2, 0.0, np.log2(255)], abs=1e-5)
    one, two = opened("a.txt", root=tmp_path), opened("b.txt", "a.txt", root=tmp_path)
    assert len({task.digest, one.digest, two.digest}) == 3
    assert (task.name, one.digest) == ("a.txt+b.txt", load_corpus("a.txt", tmp_path).digest)


def test_it_is_the_default_and_says_how_it_is_scored() -> None:
    """Bits per byte, fewer are better, eight for a model that knows nothing."""
    spec = kind_class("task", "bytes")()
    assert isinstance(spec, BytesSpec)
    score = spec.primary
    assert (score.name, score.label, score.uniform) == ("bits_per_byte", "bits per byte", 8.0)
    assert score.cost(2.0) < score.cost(3.0)


def test_the_text_of_a_verdict_is_no_searchs() -> None:
    """The two sides hold out disjoint halves of the text, which together are what the task holds out."""
    from evo.tasks.bytes.spec import BytesSpec

    task = open_task(BytesSpec(), Path())
    searched, judged = (side.corpora[0] for side in task.sides())  # type: ignore[attr-defined]
    whole = task.corpora[0]  # type: ignore[attr-defined]
    assert searched.held_out.tobytes() + judged.held_out.tobytes() == whole.held_out.tobytes()
    assert abs(len(searched.held_out) - len(judged.held_out)) <= 1
    assert searched.train is judged.train is whole.train


def test_given_bytes_are_not_asked_for() -> None:
    """Of each window, in training, on the device and held out, targets from the first byte not given on count, and no
    other: the score is theirs. The digest tells it apart."""
    plain, task = opened(), open_task(BytesSpec(given=5), Path())
    on_device = task.on_device(torch.device("cpu"))
    assert on_device is not None
    drawn = on_device.draw(2, 3, 8, STREAM)[None]
    made = [task.batch(2, 3, 8, STREAM), on_device.batch(drawn, torch.zeros(1, dtype=torch.int64), 8)]
    for batch in (*made, *task.held_out(8, 80, 4), *task.sides()[0].held_out(8, 80, 4)):
        assert batch.weights_BT is not None
        assert batch.weights_BT.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * len(batch.inputs_BT)
    assert torch.equal(made[0].inputs_BT, plain.batch(2, 3, 8, STREAM).inputs_BT)
    sure = torch.full((256,), -20.0).index_fill(0, torch.tensor(ord(" ")), 20.0)

    def predict(tokens_BT: torch.Tensor) -> torch.Tensor:  # uniform where it counts, hopeless elsewhere
        logits_BTV = torch.zeros(*tokens_BT.shape, 256)
        logits_BTV[:, :4] = sure
        return logits_BTV

    assert task.score(predict, 8, 400)["bits_per_byte"] == pytest.approx(8.0)
    assert plain.score(predict, 8, 400)["bits_per_byte"] > 20
    assert task.digest != plain.digest
