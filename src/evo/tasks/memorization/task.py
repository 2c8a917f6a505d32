"""Facts learned by heart: one mapping from keys to values for all sequences."""

from __future__ import annotations

import numpy as np

from evo.base.streams import Stream
from evo.tasks.held_out import IGNORED
from evo.tasks.synthetic import Sequences, SyntheticTask


class MemorizationTask(SyntheticTask):
    """See `SyntheticTask`. The last symbol is the mark, the lower half of the others are keys."""

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """As `generate_memorization_instance` of mad-lab; held-out sequences have the same facts in other places."""
        del is_training
        mark = self.vocab - 1
        pairs, keys = (context + 1) // 2, mark // 2
        facts_K = keys + Stream(self.spec.draw).child("facts").numpy().permutation(mark - keys)[:keys]
        keys_NP = rng.integers(keys, size=(count, pairs))
        inputs_NPS = np.stack([keys_NP, np.full_like(keys_NP, mark)], axis=-1)
        targets_NPS = np.stack([np.full_like(keys_NP, IGNORED), facts_K[keys_NP]], axis=-1)
        return Sequences(inputs_NPS.reshape(count, -1)[:, :context], targets_NPS.reshape(count, -1)[:, :context])
