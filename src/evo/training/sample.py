"""A sample of the held-out windows that a score reads, in parts: what restored weights are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from evo.compiler.organism import Organism
from evo.tasks.base import Batch, Task
from evo.tasks.held_out import BATCH_TOKENS, bits_per_target
from evo.training.score import predicting


def held_out_sample(task: Task, context: int, tokens: int, *, cover: int, parts: int) -> list[Batch]:
    """Windows of about `tokens` held-out targets from those that a score over `cover` tokens reads, dealt to `parts`.

    Each part is spread over the whole text; there are fewer parts where there are fewer windows.
    """
    batches = list(task.held_out(context, cover, max(1, BATCH_TOKENS // context)))
    count = sum(len(batch.inputs_BT) for batch in batches)
    taken = range(0, count, max(1, count * context // max(tokens, 1)))
    return [_windows(batches, taken[part::parts]) for part in range(min(parts, len(taken)))]


def _windows(batches: Sequence[Batch], places: Iterable[int]) -> Batch:
    """Rows of batches as one batch, by their place in all of them."""
    rows = torch.tensor(list(places))
    weights = [batch.weights_BT for batch in batches if batch.weights_BT is not None]
    return Batch(
        torch.cat([batch.inputs_BT for batch in batches])[rows],
        torch.cat([batch.targets_BT for batch in batches])[rows],
        torch.cat(weights)[rows] if weights else None,
    )


@torch.no_grad()
def sample_bits(model: Organism, sample: Iterable[Batch], precision: str = "auto") -> Iterator[float]:
    """The mean of -log2 p over the targets of each part: what restored weights are judged by, for any task."""
    predict = predicting(model, precision)
    for part in sample:
        yield bits_per_target(predict, [part])


class ScoredLogits:
    """The logits that a model had for a sample's windows while it was scored, so that they need not be made again."""

    def __init__(self, sample: Sequence[Batch]) -> None:
        self.sample = sample
        self._wanted = {row.numpy().tobytes() for part in sample for row in part.inputs_BT.cpu()}
        self._found: dict[bytes, Tensor] = {}

    def note(self, tokens_BT: Tensor, logits_BTV: Tensor) -> None:
        """Keep the rows of the sample."""
        for row, tokens_T in enumerate(tokens_BT.cpu()):
            key = tokens_T.numpy().tobytes()
            if key in self._wanted:
                self._found[key] = logits_BTV[row].clone()

    def bits(self) -> list[float] | None:
        """As `sample_bits`; None where not every window was scored."""
        if self._wanted - self._found.keys():
            return None
        return [bits_per_target(self._logits, [part]) for part in self.sample]

    def _logits(self, tokens_BT: Tensor) -> Tensor:
        return torch.stack([self._found[row.numpy().tobytes()] for row in tokens_BT])
