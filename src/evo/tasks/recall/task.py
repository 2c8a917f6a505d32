"""Associative recall in context: pairs of a key and a value, some of them noise."""

from __future__ import annotations

import numpy as np

from evo.tasks.held_out import IGNORED
from evo.tasks.synthetic import Ints, Sequences, SyntheticTask, next_tokens


class RecallTask(SyntheticTask):
    """See `SyntheticTask`. Keys are the lower half of the symbols that are no noise, values the upper half."""

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """As `generate_in_context_recall_instance` of mad-lab with `multi_query`: the last whole pair always recalls.

        Every pair's key is drawn uniformly, its value once a sequence; a pair is noise with a probability, but one of
        them never is.
        """
        clean = self.vocab - self.spec.noise_vocab
        pairs, last = context // 2 + 1, (context + 1) // 2 - 1
        keys_NP = rng.integers(clean // 2, size=(count, pairs))
        values_NK = rng.integers(clean // 2, clean, size=(count, clean // 2))
        noisy_NP = rng.random((count, pairs)) < self.spec.noise
        noisy_NP[:, last] = noisy_NP[:, -1] = False
        noisy_NP[np.arange(count), rng.integers(last, size=count)] = False
        keys_NP[:, last] = _earlier(keys_NP[:, :last], noisy_NP[:, :last], clean // 2, rng)
        known_NP = came_before(np.where(noisy_NP, -1, keys_NP), clean // 2)
        tokens_NPS = np.stack([keys_NP, np.take_along_axis(values_NK, keys_NP, axis=1)], axis=-1)
        if self.spec.noise_vocab:
            tokens_NPS[noisy_NP] = rng.integers(clean, self.vocab, size=(int(noisy_NP.sum()), 2))
        answers_NPS = np.full_like(tokens_NPS, IGNORED)
        answers_NPS[..., 1] = np.where(known_NP & ~noisy_NP, tokens_NPS[..., 1], IGNORED)
        flat = [array.reshape(count, -1)[:, : context + 1] for array in (tokens_NPS, answers_NPS)]
        return next_tokens(flat[0], flat[1], is_training)


def came_before(keys_NP: Ints, keys: int) -> np.ndarray:
    """(N, P) bool: whether the key of each pair stood in an earlier pair of its row; keys below 0 are none."""
    seen_NK, found_NP = np.zeros((len(keys_NP), keys + 1), bool), np.zeros(keys_NP.shape, bool)
    rows_N = np.arange(len(keys_NP))
    for place, keys_N in enumerate(keys_NP.T):  # a key of -1 is the last column, which counts for nothing
        found_NP[:, place] = seen_NK[rows_N, keys_N] & (keys_N >= 0)
        seen_NK[rows_N, keys_N] = True
    return found_NP


def _earlier(keys_NP: Ints, noisy_NP: np.ndarray, keys: int, rng: np.random.Generator) -> Ints:
    """(N,) one of the distinct keys of each row that are no noise, uniformly."""
    shown_NK = np.zeros((len(keys_NP), keys + 1), bool)
    shown_NK[np.arange(len(keys_NP))[:, None], np.where(noisy_NP, keys, keys_NP)] = True
    return (rng.random((len(keys_NP), keys)) * shown_NK[:, :keys]).argmax(1)
