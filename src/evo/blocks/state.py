"""What blocks keep between two chunks of a sequence."""

from __future__ import annotations

from typing import ClassVar


class State:
    """What a block keeps between two chunks of a sequence. Frozen dataclasses.

    vectors: the names of its tensors (B, S, ..., K) that hold vectors of earlier positions, which a cache policy may
    keep in fewer bits.
    """

    vectors: ClassVar[tuple[str, ...]] = ()
