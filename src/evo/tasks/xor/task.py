"""Elman's exclusive or in time: every third bit follows from the two before it."""

from __future__ import annotations

import numpy as np

from evo.tasks.held_out import IGNORED
from evo.tasks.synthetic import Sequences, SyntheticTask, next_tokens


class XorTask(SyntheticTask):
    """See `SyntheticTask`. Sequences begin with a triple, so what is asked for is known by its place."""

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """Triples (a, b, a xor b) of fair bits a and b."""
        pairs_NPS = rng.integers(2, size=(count, context // 3 + 1, 2))
        third_NP1 = pairs_NPS.sum(-1, keepdims=True) % 2
        tokens_NPS = np.concatenate([pairs_NPS, third_NP1], axis=-1)
        answers_NPS = np.full_like(tokens_NPS, IGNORED)
        answers_NPS[..., 2] = tokens_NPS[..., 2]
        flat = [array.reshape(count, -1)[:, : context + 1] for array in (tokens_NPS, answers_NPS)]
        return next_tokens(flat[0], flat[1], is_training)
