"""What a cache policy is, and how many bytes it takes. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SINKS = 4
"""The first positions, which softmax leans on and a window keeps (Xiao et al. 2024)."""
SCALE_BYTES = 2
"""Of the bfloat16 number beside a vector of few bits."""
SUM_BYTES = 4
"""Of the float32 sum of the attention that a key got."""
TIPPING_ERROR = 0.01
"""From which rounding on a router is likely to send some tokens another way."""


@dataclass(frozen=True)
class Store:
    """How a number is kept. bits: of each; packer: `module:class` that packs vectors, empty for none.

    error: the most that rounding moves a number by, of the largest in its vector.
    """

    name: str
    bits: int
    packer: str = ""
    error: float = 0.0

    def vector_bytes(self, width: int) -> int:
        """The bytes of one vector, with the number that scales it."""
        return -(-width * self.bits // 8) + (SCALE_BYTES if self.packer else 0)


FULL = Store("full", 16)
NONE = Store("none", 0)
STORES = {
    store.name: store
    for store in (
        FULL,
        Store("int8", 8, "evo.blocks.cache.packers:Int8", 1 / 254),
        Store("fp8", 8, "evo.blocks.cache.packers:Fp8", 1 / 28),
        Store("nf4", 4, "evo.blocks.cache.packers:Nf4", 0.152),
        NONE,
    )
}
"""Every way, by name."""


@dataclass(frozen=True)
class CachePolicy:
    """How decoding keeps keys and values.

    window: the latest positions kept beside the first `SINKS`; None for all. heavy: how many are kept beside the latest
    in place of the first, of each key head those that got most attention so far (H2O); it needs a window.
    """

    store: Store = FULL
    window: int | None = None
    heavy: int | None = None

    def __post_init__(self) -> None:
        if self.heavy is not None and self.window is None:
            raise ValueError("the heaviest positions are kept beside a window of the latest")

    @property
    def label(self) -> str:
        """What people call it."""
        parts = [("window", self.window), ("heavy", self.heavy)]
        return ", ".join([self.store.name, *(f"{name} {count}" for name, count in parts if count is not None)])

    @property
    def limit(self) -> int | None:
        """The most positions that are kept of an attention that sees all."""
        return None if self.window is None else self.window + SINKS

    @property
    def evicting_limit(self) -> int | None:
        """The most positions that a key head keeps which chooses its own; None where none does."""
        return None if self.window is None or self.heavy is None else self.window + self.heavy

    def bytes_kept(self, vectors: Sequence[int], tokens: int) -> int:
        """The bytes that vectors of such widths take, each kept for so many tokens."""
        return tokens * sum(map(self.store.vector_bytes, vectors))


EVERYTHING = CachePolicy()
"""All positions, as they are."""
