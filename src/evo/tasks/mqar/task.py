"""Multi-query associative recall: pairs to remember, then queries among random symbols."""

from __future__ import annotations

import numpy as np

from evo.tasks.held_out import IGNORED
from evo.tasks.synthetic import Ints, Sequences, SyntheticTask


class MqarTask(SyntheticTask):
    """See `SyntheticTask`. Symbol 0 is no key."""

    @property
    def shortest(self) -> int:
        """The pairs, and as much room for queries."""
        return 4 * self.spec.pairs

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """As `multiquery_ar` of zoology with `random_non_queries`: the query of a pair stands at an even distance d
        behind the pairs with probability proportional to (1 + d / 2) ^ (power - 1), no two at one place."""
        del is_training
        pairs, half = self.spec.pairs, self.vocab // 2
        keys_NP = _distinct(rng, 1, half, (count, pairs))
        values_NP = _distinct(rng, half, self.vocab, (count, pairs))
        shown_NS = np.stack([keys_NP, values_NP], axis=-1).reshape(count, 2 * pairs)
        slots = (context - 2 * pairs) // 2
        likely_S = (self.spec.power - 1) * np.log(np.arange(1, slots + 1))
        order_NS = (likely_S + rng.gumbel(size=(count, slots))).argsort(1)  # drawn one by one without replacement
        places_NP = 2 * pairs + 2 * order_NS[:, ::-1][:, :pairs]
        inputs_NT = rng.integers(self.vocab, size=(count, context))
        targets_NT = np.full((count, context), IGNORED)
        inputs_NT[:, : 2 * pairs] = shown_NS
        np.put_along_axis(inputs_NT, places_NP, keys_NP, axis=1)
        np.put_along_axis(targets_NT, places_NP, values_NP, axis=1)
        return Sequences(inputs_NT, targets_NT)


def _distinct(rng: np.random.Generator, low: int, high: int, shape: tuple[int, int]) -> Ints:
    """Numbers in [low, high), no two in a row alike: rows that have two alike are drawn again."""
    drawn_NP = rng.integers(low, high, size=shape)
    rows = np.arange(shape[0])
    while True:
        ordered = np.sort(drawn_NP[rows], axis=1)
        rows = rows[(ordered[:, 1:] == ordered[:, :-1]).any(1)]
        if not len(rows):
            return drawn_NP
        drawn_NP[rows] = (
            rng.integers(low, high, size=(len(rows), shape[1]))
            if (high - low) > shape[1] ** 2
            else low + rng.random((len(rows), high - low)).argsort(1)[:, : shape[1]]
        )
