"""Several tasks at once: a row of a batch each in turn, with symbols of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from evo.base.digest import digest_data
from evo.base.streams import Stream
from evo.dsl.task import Score
from evo.tasks.base import Batch, Predict, Task, open_task
from evo.tasks.combined.spec import CombinedSpec


def open_combined(spec: CombinedSpec, root: Path) -> CombinedTask:
    """The tasks of a spec, opened."""
    return CombinedTask(tuple(open_task(task, root) for task in spec.combined))


class CombinedTask:
    """See `Task`. The symbols of a task begin where those of the task before it end.

    Prompts and samples are those of the first task.
    """

    token_bytes: Tensor | None = None
    primary: Score = CombinedSpec.primary

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        self.tasks = tasks
        self.firsts = [sum(task.vocab for task in tasks[:index]) for index in range(len(tasks))]
        self.vocab = sum(task.vocab for task in tasks)
        self.start = tasks[0].start

    @property
    def name(self) -> str:
        """The names of all."""
        return "+".join(task.name for task in self.tasks)

    @property
    def digest(self) -> str:
        """Of all digests in their order."""
        return digest_data([task.digest for task in self.tasks])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of each."""
        return tuple(dict.fromkeys(warning for task in self.tasks for warning in task.warnings))

    def describe(self) -> str:
        """Each in its words."""
        return "; ".join(task.describe() for task in self.tasks)

    def require(self, context: int) -> None:
        """Raise what one of them raises."""
        for task in self.tasks:
            task.require(context)

    def batch(self, step: int, rows: int, context: int, stream: Stream) -> Batch:
        """Row r of step s belongs to task (s rows + r) modulo their number; its weights sum to the context."""
        count = len(self.tasks)
        turns = [(step * rows + row) % count for row in range(rows)]
        inputs_BT, targets_BT = (torch.zeros(rows, context, dtype=torch.int64) for _ in range(2))
        weights_BT = torch.zeros(rows, context)
        for index, task in enumerate(self.tasks):
            own = [row for row in range(rows) if turns[row] == index]
            if not own:
                continue
            part = self._placed(index, task.batch(step, len(own), context, stream.child("task", index)))
            assert part.weights_BT is not None
            inputs_BT[own], targets_BT[own] = part.inputs_BT, part.targets_BT
            weights_BT[own] = part.weights_BT * (context / part.weights_BT.sum(1, keepdim=True).clamp_min(1e-9))
        return Batch(inputs_BT, targets_BT, weights_BT)

    def on_device(self, device: torch.device) -> CombinedSource:
        """Batches that are made on the host and picked on the device."""
        del device
        return CombinedSource(self)

    def held_out(self, context: int, tokens: int, rows: int) -> Iterator[Batch]:
        """What each holds out, one task after another, an equal share of the tokens each."""
        for index, task in enumerate(self.tasks):
            for batch in task.held_out(context, max(1, tokens // len(self.tasks)), rows):
                yield self._placed(index, batch)

    def sides(self) -> tuple[CombinedTask, CombinedTask]:
        """The first side of every task, and the second."""
        searched, judged = zip(*(task.sides() for task in self.tasks), strict=True)
        return CombinedTask(searched), CombinedTask(judged)

    def score(self, predict: Predict, context: int, tokens: int) -> dict[str, float]:
        """The mean of what remains to a perfect score, then each task's scores as `INDEX.NAME`.

        A task sees the logits of its own symbols only.
        """
        found, remainders = dict[str, float](), list[float]()
        for index, task in enumerate(self.tasks):
            scores = task.score(self._seen_by(index, predict), context, max(1, tokens // len(self.tasks)))
            remainders.append(task.primary.remainder(scores[task.primary.name]))
            found |= {f"{index}.{name}": value for name, value in scores.items()}
        return {self.primary.name: sum(remainders) / len(remainders), **found}

    def encode(self, text: bytes) -> list[int]:
        """As the first task encodes."""
        return self.tasks[0].encode(text)

    def decode(self, tokens: Iterable[int]) -> bytes:
        """Each as the task that it belongs to decodes it."""
        return b"".join(self._task_of(token)[0].decode([self._task_of(token)[1]]) for token in tokens)

    def _placed(self, index: int, batch: Batch) -> Batch:
        first = self.firsts[index]
        weights_BT = torch.ones(batch.targets_BT.shape) if batch.weights_BT is None else batch.weights_BT
        return Batch(batch.inputs_BT + first, batch.targets_BT + first, weights_BT)

    def _seen_by(self, index: int, predict: Predict) -> Predict:
        first, stop = self.firsts[index], self.firsts[index] + self.tasks[index].vocab
        return lambda tokens_BT: predict(tokens_BT + first)[..., first:stop]

    def _task_of(self, token: int) -> tuple[Task, int]:
        index = max(index for index, first in enumerate(self.firsts) if first <= token)
        return self.tasks[index], token - self.firsts[index]


class CombinedSource:
    """Whole batches, drawn on the host and packed into numbers of 64 bits. See `DeviceSource`."""

    def __init__(self, task: CombinedTask) -> None:
        self.task = task

    def draw(self, step: int, rows: int, context: int, stream: Stream) -> Tensor:
        """(3, rows, context) int64: inputs, targets, and the bits of the weights."""
        batch = self.task.batch(step, rows, context, stream)
        assert batch.weights_BT is not None
        return torch.stack([batch.inputs_BT, batch.targets_BT, batch.weights_BT.view(torch.int32).long()])

    def batch(self, drawn_S: Tensor, row_1: Tensor, context: int) -> Batch:
        """Those of one step."""
        inputs_BT, targets_BT, bits_BT = drawn_S.index_select(0, row_1)[0].unbind(0)
        return Batch(inputs_BT, targets_BT, bits_BT.to(torch.int32).view(torch.float32))
