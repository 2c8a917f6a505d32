"""The parity of all bits so far."""

from __future__ import annotations

import numpy as np

from evo.tasks.synthetic import Sequences, SyntheticTask


class ParityTask(SyntheticTask):
    """See `SyntheticTask`."""

    def sequences(self, rng: np.random.Generator, count: int, context: int, is_training: bool) -> Sequences:
        """Fair bits and their running sum modulo 2."""
        del is_training
        bits_NT = rng.integers(2, size=(count, context))
        return Sequences(bits_NT, bits_NT.cumsum(1) % 2)
