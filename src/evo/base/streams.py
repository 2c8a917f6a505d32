"""Counter-based random streams: named children of one seed.

A stream is a pure function of its path of names, so the same seed gives the same draws on any number of workers,
in any order, interrupted or not, and whatever PYTHONHASHSEED says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Stream:
    """A source of random numbers keyed by a seed and a path of names.

    >>> by_steps, at_once = Stream(0).child("generation", 3).child("mutate"), Stream(0).child("generation", 3, "mutate")
    >>> by_steps.integer() == at_once.integer()
    True
    """

    seed: int
    path: tuple[str | int, ...] = field(default=())

    def child(self, *names: str | int) -> Stream:
        """The stream of that name below this one; independent of every other name."""
        return Stream(self.seed, (*self.path, *names))

    def integer(self) -> int:
        """One integer in [0, 2**63), the same at every call: a seed for torch.Generator or for a library."""
        return int.from_bytes(self._key()[:8], "little") >> 1

    def numpy(self) -> np.random.Generator:
        """A fresh Philox generator at the start of this stream."""
        return np.random.Generator(np.random.Philox(key=int.from_bytes(self._key(), "little")))

    def _key(self) -> bytes:
        text = "\x1f".join([str(self.seed), *(f"{type(name).__name__}:{name}" for name in self.path)])
        return hashlib.blake2b(text.encode(), digest_size=16).digest()
