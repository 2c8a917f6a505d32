"""Symbols among blanks: to be found and repeated in order."""

from __future__ import annotations

import numpy as np

from evo.tasks.held_out import IGNORED
from evo.tasks.synthetic import Sequences, SyntheticTask


class SelectiveCopyTask(SyntheticTask):
    """See `SyntheticTask`. The last symbol is the mark, the one before it the blank."""

    @property
    def shortest(self) -> int:
        """The symbols twice, a blank and the mark."""
        return 2 * self.spec.copied + 2

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """As `generate_selective_copying_instance` of mad-lab: each blank goes before a symbol drawn uniformly."""
        del is_training
        mark, blank, copied = self.vocab - 1, self.vocab - 2, self.spec.copied
        symbols_NS = rng.integers(blank, size=(count, copied))
        blanks_NS = rng.multinomial(context - 2 * copied - 1, [1 / copied] * copied, size=count)
        places_NS = blanks_NS.cumsum(1) + np.arange(copied)
        inputs_NT = np.full((count, context), blank)
        np.put_along_axis(inputs_NT, places_NS, symbols_NS, axis=1)
        inputs_NT[:, context - copied - 1] = mark
        targets_NT = np.full_like(inputs_NT, IGNORED)
        targets_NT[:, context - copied :] = symbols_NS
        return Sequences(inputs_NT, targets_NT)
