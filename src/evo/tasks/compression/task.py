"""A sequence in one vector: what the readout tells of every place at the last position."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from evo.tasks.base import Predict
from evo.tasks.held_out import BATCH_TOKENS, IGNORED
from evo.tasks.synthetic import Sequences, SyntheticTask


class CompressionTask(SyntheticTask):
    """See `SyntheticTask`. Entry vocab + place (vocab - 1) + symbol tells of a place, counted back from the mark."""

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """Uniform symbols and the mark; one place is asked for at the mark."""
        del is_training
        symbols = self.spec.vocab - 1
        inputs_NT = rng.integers(symbols, size=(count, context))
        inputs_NT[:, -1] = symbols
        places_N = rng.integers(min(self.spec.places, context - 1), size=count)
        shown_N = inputs_NT[np.arange(count), context - 2 - places_N]
        targets_NT = np.full_like(inputs_NT, IGNORED)
        targets_NT[:, -1] = self.spec.vocab + places_N * symbols + shown_N
        return Sequences(inputs_NT, targets_NT)

    @torch.no_grad()
    def score(self, predict: Predict, context: int, tokens: int) -> dict[str, float]:
        """The share of places whose symbol ranks first, and the mean of -log2 p among the symbols of a place."""
        symbols, places = self.spec.vocab - 1, min(self.spec.places, context - 1)
        hits, nats, count = 0.0, 0.0, 0
        for batch in self.held_out(context, tokens, max(1, BATCH_TOKENS // context)):
            logits_BV = predict(batch.inputs_BT)[:, -1, self.spec.vocab : self.vocab].float()
            if not bool(logits_BV.isfinite().all()):
                return {self.primary.name: math.nan, "bits_per_target": math.nan}
            logits_BPV = logits_BV.unflatten(-1, (self.spec.places, symbols))[:, :places]
            shown_BP = batch.inputs_BT.to(logits_BV.device)[:, :-1].flip(1)[:, :places]
            hits += float((logits_BPV.argmax(-1) == shown_BP).sum())
            nats += float(F.cross_entropy(logits_BPV.flatten(0, 1), shown_BP.flatten(), reduction="sum"))
            count += shown_BP.numel()
        return {self.primary.name: hits / count, "bits_per_target": nats / count / math.log(2)}
