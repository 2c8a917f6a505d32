"""What every task keeps: batches that repeat, the same ones on the device, and scores with its primary one first."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizer_files import TOKENS, small_corpus, small_tokenizer
from torch import Tensor

from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.dsl.index import kind_class, kinds
from evo.dsl.task import TaskSpec
from evo.tasks.base import Batch, Task, open_task
from evo.tasks.bytes.spec import BytesSpec
from evo.tasks.xor.spec import XorSpec

ROWS, STREAM = 3, Stream(5).child("data")
KINDS = sorted({*kinds("task"), "copy"})
SETTINGS: dict[str, dict[str, Any]] = {"combined": {"combined": (BytesSpec(), XorSpec(examples=40))}}
"""What a spec needs to be made."""

pytestmark = [pytest.mark.usefixtures("strangers"), pytest.mark.parametrize("kind", KINDS)]


def spec_of(kind: str) -> TaskSpec:
    """The spec of a kind with its defaults, of few sequences where it says how many."""
    cls = kind_class("task", kind)
    if "tokenizer" in cls.model_fields:
        SETTINGS[kind] = {"tokenizer": str(small_tokenizer()), "tokens": TOKENS, "corpus": (str(small_corpus()),)}
    spec = cls(**SETTINGS.get(kind, {"examples": 40} if "examples" in cls.model_fields else {}))
    assert isinstance(spec, TaskSpec)
    return spec


def opened(kind: str) -> Task:
    """Its task."""
    return open_task(spec_of(kind), Path())


def context(kind: str) -> int:
    """The shortest even context from 12 on that it takes."""
    task = opened(kind)
    for tokens in range(12, 129, 2):
        try:
            task.require(tokens)
        except DiagnosticError:
            continue
        return tokens
    raise AssertionError(f"{kind} takes no context up to 128")


def tensors(batch: Batch) -> list[Tensor]:
    """What a batch holds."""
    held = (batch.inputs_BT, batch.targets_BT, batch.weights_BT)
    return [tensor for tensor in held if tensor is not None]


def equal(one: Batch, two: Batch) -> bool:
    """Whether two batches are the same to the last bit."""
    pairs = zip(tensors(one), tensors(two), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def guess(vocab: int):
    """A model that knows nothing."""
    return lambda tokens_BT: torch.zeros(*tokens_BT.shape, vocab)


def test_the_task_is_what_its_spec_says(kind: str) -> None:
    """Vocabulary and primary score are the spec's; opening twice names the same data."""
    task, spec = opened(kind), spec_of(kind)
    task.require(context(kind))
    assert (task.vocab, task.primary) == (spec.smallest_vocab, spec.primary)
    assert task.digest == opened(kind).digest
    assert task.token_bytes is None or task.token_bytes.shape == (task.vocab,)


def test_batches_are_tokens_and_repeat(kind: str) -> None:
    """Inputs and targets are ids of the vocabulary, weights are at least 0, and a step names its batch."""
    task = opened(kind)
    batch = task.batch(7, ROWS, context(kind), STREAM)
    task.batch(8, ROWS, context(kind), STREAM)
    assert equal(batch, task.batch(7, ROWS, context(kind), STREAM))
    assert not equal(batch, task.batch(8, ROWS, context(kind), STREAM))
    assert not equal(batch, task.batch(7, ROWS, context(kind), Stream(6).child("data")))
    assert all(tensor.shape == (ROWS, context(kind)) for tensor in tensors(batch))
    for ids in (batch.inputs_BT, batch.targets_BT):
        assert ids.dtype == torch.int64
        assert 0 <= int(ids.min()) <= int(ids.max()) < task.vocab
    assert batch.weights_BT is None or (batch.weights_BT.dtype == torch.float32 and bool((batch.weights_BT >= 0).all()))


def test_the_device_makes_the_same_batches(kind: str) -> None:
    """The source for captured steps, where there is one, gives the host's batches."""
    task = opened(kind)
    source = task.on_device(torch.device("cpu"))
    if source is None:
        return
    drawn_S = torch.stack([source.draw(step, ROWS, context(kind), STREAM) for step in range(4)])
    for step in range(4):
        found = source.batch(drawn_S, torch.tensor([step]), context(kind))
        assert equal(found, task.batch(step, ROWS, context(kind), STREAM))


def test_held_out_batches_are_fixed(kind: str) -> None:
    """Every look at held-out data sees the same batches, in rows of one window."""
    task = opened(kind)
    one, two = (list(task.held_out(context(kind), 200, 4)) for _ in range(2))
    assert one
    assert all(equal(first, second) for first, second in zip(one, two, strict=True))
    assert all(batch.inputs_BT.shape[1] == context(kind) and len(batch.inputs_BT) <= 4 for batch in one)


def test_its_primary_score_comes_first(kind: str) -> None:
    """Scores of a guess are numbers, the primary one first; of logits that are none it is NaN."""
    task = opened(kind)
    scores = task.score(guess(task.vocab), context(kind), 200)
    assert next(iter(scores)) == task.primary.name
    assert all(value == value for value in scores.values())
    broken = task.score(lambda tokens_BT: guess(task.vocab)(tokens_BT) + float("nan"), context(kind), 200)
    assert broken[task.primary.name] != broken[task.primary.name]


def test_text_comes_back(kind: str) -> None:
    """Text survives its tokens, and is the sum of its pieces; sampling starts from one of them."""
    task = opened(kind)
    ids = task.batch(0, 1, context(kind), STREAM).inputs_BT[0].tolist()
    text = task.decode(ids)
    assert text == b"".join(task.decode([token]) for token in ids)
    assert task.decode(task.encode(text)) == text != b""
    assert 0 <= task.start < task.vocab


def test_sides_hold_out_parts_of_it(kind: str) -> None:
    """Both sides train on the same and say so by their digest; what one holds out repeats, and is not the other's."""
    task, tokens = opened(kind), context(kind)
    sides = task.sides()
    assert {side.digest for side in sides} == {task.digest}
    for side in sides:
        side.require(tokens)
        assert equal(side.batch(0, ROWS, tokens, STREAM), task.batch(0, ROWS, tokens, STREAM))
    searched, judged = (
        [row.numpy().tobytes() for batch in side.held_out(tokens, 10**5, ROWS) for row in batch.inputs_BT]
        for side in sides
    )
    assert searched
    assert judged
    assert searched != judged
