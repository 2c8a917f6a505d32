"""A task that shares nothing with bytes: repeat a sequence of symbols after a mark; scored by accuracy."""

from copy import copy
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.check import require_valid
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, from_data
from evo.dsl.genes import FIXED
from evo.dsl.task import Score, TaskSpec
from evo.tasks.base import Batch

CONTEXT = 12


class CopySpec(TaskSpec):
    """Symbols, the mark 0, and the same symbols again; what stands before the mark is not to be predicted."""

    kind: ClassVar[str | None] = "copy"
    primary: ClassVar[Score] = Score("accuracy", lower_is_better=False, uniform=1 / 16)
    builder: ClassVar[str] = "strangers.copying:CopyTask"

    symbols: Annotated[int, Field(ge=2, le=64), FIXED] = 15
    """How many there are besides the mark."""

    @property
    def smallest_vocab(self) -> int:
        return self.symbols + 1


class CopyTask:
    """See `Task`. The context is even: so many symbols, the mark, and all but the last of them again."""

    token_bytes, start = None, 0
    name, digest, warnings = "copies", "1", ()
    side = 1

    def __init__(self, spec: CopySpec, root: object) -> None:
        del root
        self.vocab, self.primary = spec.smallest_vocab, spec.primary

    def describe(self) -> str:
        return f"copies of {self.vocab - 1} symbols"

    def require(self, context: int) -> None:
        assert context % 2 == 0

    def rows(self, rows: int, context: int, stream: Stream) -> Tensor:
        """Whole sequences, (rows, context + 1) int64."""
        half = stream.numpy().integers(1, self.vocab, size=(rows, context // 2))
        return torch.from_numpy(np.concatenate([half, np.zeros((rows, 1), np.int64), half], axis=1))

    def batch(self, step: int, rows: int, context: int, stream: Stream) -> Batch:
        return cut(self.rows(rows, context, stream.child("batch", step)))

    def on_device(self, device: torch.device) -> "CopySource | None":
        return CopySource(self)

    def held_out(self, context: int, tokens: int, rows: int) -> Any:
        stream = Stream(self.side).child("held out")
        return (self.batch(step, rows, context, stream) for step in range(max(1, tokens // context // rows)))

    def sides(self) -> "tuple[CopyTask, CopyTask]":
        one, two = copy(self), copy(self)
        one.side, two.side = 2, 3
        return one, two

    def score(self, predict: Any, context: int, tokens: int) -> dict[str, float]:
        hits, count = 0.0, 0.0
        for batch in self.held_out(context, tokens, 8):
            assert batch.weights_BT is not None
            logits_BTV = predict(batch.inputs_BT)
            if not bool(logits_BTV.isfinite().all()):
                return {"accuracy": float("nan")}
            hits += float(((logits_BTV.argmax(-1) == batch.targets_BT) * batch.weights_BT).sum())
            count += float(batch.weights_BT.sum())
        return {"accuracy": hits / count, "targets": count}

    def encode(self, text: bytes) -> list[int]:
        return [byte - 97 for byte in text if byte >= 97]

    def decode(self, tokens: Any) -> bytes:
        return bytes(97 + token for token in tokens)


class CopySource:
    """Draws whole sequences on the host and only picks a step's from them."""

    def __init__(self, task: CopyTask) -> None:
        self.task = task

    def draw(self, step: int, rows: int, context: int, stream: Stream) -> Tensor:
        return self.task.rows(rows, context, stream.child("batch", step))

    def batch(self, drawn_S: Tensor, row_1: Tensor, context: int) -> Batch:
        return cut(drawn_S.index_select(0, row_1)[0])


def cut(rows: Tensor) -> Batch:
    """A batch of whole sequences: only targets after the mark count."""
    half = rows.shape[1] // 2
    weights = torch.zeros(rows.shape[0], rows.shape[1] - 1, device=rows.device)
    weights[:, half:] = 1.0
    return Batch(rows[:, :-1], rows[:, 1:], weights)


def document(**train: Any) -> Document:
    """An organism of sixteen symbols that learns to copy."""
    stages = [{"name": "body", "repeat": 2, "mix": {"kind": "attention", "heads": 2}}]
    organism = {"width": 16, "vocab": 16, "context": CONTEXT, "stages": stages}
    settings = {"task": {"kind": "copy"}, "steps": 2, "batch": 4, **train}
    return require_valid(from_data({"evo": 1, "organism": organism, "train": settings}))


def model(made: Document) -> Organism:
    """Its organism, untrained."""
    return build(resolve(made.organism), made.train.seed)
