"""Sines, guessed from a few of their points."""

from __future__ import annotations

import math

import numpy as np
import torch

from evo.tasks.base import Predict
from evo.tasks.held_out import BATCH_TOKENS, IGNORED
from evo.tasks.synthetic import Sequences, SyntheticTask, asked

REACH = 5.0
"""Both axes go from minus this to this."""


class SineTask(SyntheticTask):
    """See `SyntheticTask`."""

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """Amplitude, phase and points drawn as Finn et al. draw them; a symbol is the level that a number lies in."""
        del is_training
        points = context // 2 + 1
        amplitude_N1, phase_N1 = rng.uniform(0.1, REACH, (count, 1)), rng.uniform(0, math.pi, (count, 1))
        x_NP = rng.uniform(-REACH, REACH, (count, points))
        y_NP = amplitude_N1 * np.sin(x_NP - phase_N1)
        tokens_NPS = np.stack([self._level(x_NP), self.spec.levels + self._level(y_NP)], axis=-1)
        answers_NPS = tokens_NPS.copy()
        answers_NPS[..., 0] = IGNORED
        tokens_NT, answers_NT = tokens_NPS.reshape(count, -1), answers_NPS.reshape(count, -1)
        return Sequences(tokens_NT[:, :context], answers_NT[:, 1 : context + 1])

    @torch.no_grad()
    def score(self, predict: Predict, context: int, tokens: int) -> dict[str, float]:
        """The mean squared error of the mean level by probability against the level that y lies in."""
        levels = self.spec.levels
        centres_L = (torch.arange(levels, dtype=torch.float64) + 0.5) * 2 * REACH / levels - REACH
        squares, count = 0.0, 0
        for batch in self.held_out(context, tokens, max(1, BATCH_TOKENS // context)):
            logits_NV, targets_N = (tensor.cpu() for tensor in asked(predict(batch.inputs_BT), batch))
            guesses_N = logits_NV[:, levels : self.vocab].double().softmax(-1) @ centres_L
            squares += float((guesses_N - centres_L[targets_N - levels]).square().sum())
            count += len(targets_N)
        return {self.primary.name: squares / count}

    def _level(self, values: np.ndarray) -> np.ndarray:
        levels = self.spec.levels
        return np.clip(((values + REACH) * levels / (2 * REACH)).astype(np.int64), 0, levels - 1)
