"""Associative recall of words: keys and values of several symbols each."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from evo.tasks.held_out import IGNORED
from evo.tasks.recall.task import came_before
from evo.tasks.synthetic import Ints, Sequences, SyntheticTask, next_tokens

NOTHING = -1


class FuzzyRecallTask(SyntheticTask):
    """See `SyntheticTask`. A word is some distinct symbols in a row; its size is drawn first, then the word."""

    @property
    def shortest(self) -> int:
        """Two pairs of the longest words."""
        return 2 * (self.spec.key_size + self.spec.value_size)

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """As `generate_fuzzy_in_context_recall_instance` of mad-lab with `multi_query`: the last pair always recalls.

        Pairs are drawn while another longest one would fit behind them; then a pair that was there comes again, and
        what is missing is padded on the left.
        """
        half = (self.vocab - 1) // 2
        keys, values = _words(0, half, self.spec.key_size), _words(half, self.vocab - 1, self.spec.value_size)
        smallest = 1 if is_training else self.spec.key_size
        pairs = context // (smallest + 1) + 1
        keys_NP = _drawn(keys, smallest, (count, pairs), rng)
        values_NK = _drawn(values, 1, (count, len(keys)), rng)
        words_NPS = _joined(keys, values, keys_NP, values_NK)
        ends_NP = (words_NPS != NOTHING).sum(-1).cumsum(1)
        room = context + 1 - self.spec.key_size - self.spec.value_size
        kept_NP = ends_NP <= room
        again_N = (rng.random((count, pairs)) * kept_NP).argmax(1)
        closing_N = kept_NP.sum(1)  # the pair behind those that are kept
        rows_N = np.arange(count)
        keys_NP[rows_N, closing_N] = keys_NP[rows_N, again_N]
        words_NPS[rows_N, closing_N] = words_NPS[rows_N, again_N]
        kept_NP[rows_N, closing_N] = True
        known_NP = came_before(np.where(kept_NP, keys_NP, -1), len(keys))
        asked_NPS = np.broadcast_to(known_NP[..., None], words_NPS.shape).copy()
        asked_NPS[..., : self.spec.key_size] = False
        words_NPS[~kept_NP] = NOTHING
        tokens_NT = _padded(words_NPS, words_NPS, context + 1, self.vocab - 1)
        answers_NT = _padded(words_NPS, np.where(asked_NPS, words_NPS, IGNORED), context + 1, IGNORED)
        return next_tokens(tokens_NT, answers_NT, is_training)


def _words(first: int, stop: int, longest: int) -> Ints:
    """(words, longest) all words of distinct symbols from a range, shorter ones first; `NOTHING` fills them up."""
    found = [word for size in range(1, longest + 1) for word in permutations(range(first, stop), size)]
    return np.array([[*word, *([NOTHING] * (longest - len(word)))] for word in found])


def _drawn(words: Ints, smallest: int, shape: tuple[int, int], rng: np.random.Generator) -> Ints:
    """Indices of words: the size uniform from `smallest` on, then the word uniform among those of its size."""
    sizes_W = (words != NOTHING).sum(1)
    stops_S = np.searchsorted(sizes_W, np.arange(words.shape[1] + 1), side="right")
    sizes = rng.integers(smallest, words.shape[1] + 1, size=shape)
    return rng.integers(stops_S[sizes - 1], stops_S[sizes])


def _joined(keys: Ints, values: Ints, keys_NP: Ints, values_NK: Ints) -> Ints:
    """(N, P, S) the symbols of each pair: its key's, then its value's."""
    return np.concatenate([keys[keys_NP], values[np.take_along_axis(values_NK, keys_NP, axis=1)]], axis=-1)


def _padded(words_NPS: Ints, shown_NPS: Ints, length: int, padding: int) -> Ints:
    """(N, length) what `shown_NPS` holds where words have symbols, closed up to the right."""
    count = len(words_NPS)
    words_NS, shown_NS = words_NPS.reshape(count, -1), shown_NPS.reshape(count, -1)
    is_there = words_NS != NOTHING
    behind_NS = is_there[:, ::-1].cumsum(1)[:, ::-1]  # counted from the end, itself included
    tokens_NT = np.full((count, length), padding)
    rows, columns = np.nonzero(is_there)
    tokens_NT[rows, length - behind_NS[rows, columns]] = shown_NS[rows, columns]
    return tokens_NT
