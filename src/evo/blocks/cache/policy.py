"""What a cache policy is, and how many bytes it takes. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SINKS = 4
"""The first positions, which softmax leans on and a window keeps (Xiao et al. 2024)."""
SCALE_BYTES = 2
"""Of the bfloat16 number beside a vector of few bits."""


@dataclass(frozen=True)
class Store:
    """How a number is kept. bits: of each; packer: `module:class` that packs vectors, empty for none."""

    name: str
    bits: int
    packer: str = ""

    def vector_bytes(self, width: int) -> int:
        """The bytes of one vector, with the number that scales it."""
        return -(-width * self.bits // 8) + (SCALE_BYTES if self.packer else 0)


FULL = Store("full", 16)
NONE = Store("none", 0)
STORES = {
    store.name: store
    for store in (
        FULL,
        Store("int8", 8, "evo.blocks.cache.packers:Int8"),
        Store("fp8", 8, "evo.blocks.cache.packers:Fp8"),
        Store("nf4", 4, "evo.blocks.cache.packers:Nf4"),
        NONE,
    )
}
"""Every way, by name."""


@dataclass(frozen=True)
class CachePolicy:
    """How decoding keeps keys and values. window: the latest positions kept beside the first `SINKS`; None for all."""

    store: Store = FULL
    window: int | None = None

    @property
    def label(self) -> str:
        """What people call it."""
        return self.store.name if self.window is None else f"{self.store.name}, window {self.window}"

    @property
    def limit(self) -> int | None:
        """The most positions that are kept of an attention that sees all."""
        return None if self.window is None else self.window + SINKS

    def bytes_kept(self, vectors: Sequence[int], tokens: int) -> int:
        """The bytes that vectors of such widths take, each kept for so many tokens."""
        return tokens * sum(map(self.store.vector_bytes, vectors))


EVERYTHING = CachePolicy()
"""All positions, as they are."""
