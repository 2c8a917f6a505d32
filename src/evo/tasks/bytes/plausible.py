"""Which scores on a text are plausible: those that do not leave compressors far behind."""

from __future__ import annotations

import bz2
import lzma

MARGIN = 0.5
"""The share of a compressor's bits that a model is believed to need. On large texts the best models known need about
half of what LZMA does; the models of a search are far from that."""


def is_plausible(bits_per_byte: float, train: bytes, held_out: bytes) -> bool:
    """Whether a held-out score is one that a model may have come to by learning from `train`.

    It is held against bzip2 on the held-out text alone, some milliseconds; only a score below that has to wait for
    LZMA on the held-out text after the training text, about a second a megabyte.
    """
    if bits_per_byte >= MARGIN * 8 * len(bz2.compress(held_out)) / len(held_out):
        return True
    taken = len(lzma.compress(train + held_out)) - len(lzma.compress(train))
    return bits_per_byte >= MARGIN * 8 * taken / len(held_out)
