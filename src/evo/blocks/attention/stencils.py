"""Which positions a query may see: what each kind of stencil is called, and what it means to the kernels."""

from abc import abstractmethod
from typing import Annotated, ClassVar, Required, TypedDict

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.spec import Spec


class KernelStencil(TypedDict, total=False):
    """A stencil in the words of `evo.kernels.attention.Stencil`, which says what they mean; all but causality."""

    kind: Required[str]
    size: int
    sinks: int
    dilation: int
    period: int


class StencilSpec(Spec):
    """A pattern of visible positions, made of what the attention kernels know."""

    masks: ClassVar[bool] = True
    """Whether it is there to hide anything but the future."""

    @abstractmethod
    def kernel(self) -> KernelStencil:
        """The stencil that the kernels run."""

    @abstractmethod
    def visible(self, context: int, causal: bool) -> int:
        """The number of visible (query, key) pairs in a full context."""

    @abstractmethod
    def window(self) -> int | None:
        """How many recent tokens a decoder must keep for the next besides the kernel's sinks; None for all."""

    def kept(self) -> int | None:
        """How many tokens a decoder keeps at most, sinks included; None for all."""
        window = self.window()
        return None if window is None else window + self.kernel().get("sinks", 0)


class FullStencil(StencilSpec):
    """Every position (before the query, if causal)."""

    kind: ClassVar[str | None] = "full"
    masks: ClassVar[bool] = False

    def kernel(self) -> KernelStencil:
        return {"kind": "full"}

    def visible(self, context: int, causal: bool) -> int:
        return context * (context + 1) // 2 if causal else context * context

    def window(self) -> int | None:
        return None


class WindowStencil(StencilSpec):
    """The last `size` positions, itself included: t - size < s <= t (|t - s| < size if not causal), and the sinks."""

    kind: ClassVar[str | None] = "window"

    size: Annotated[int, Field(ge=1), Gene(4, 1024, "x2")]
    """Positions in the window, the query's own included."""
    sinks: Annotated[int, Field(ge=0), Gene(0, 8, "+1")] = 0
    """First positions that stay visible to every later query (Xiao et al. 2023)."""

    def kernel(self) -> KernelStencil:
        return {"kind": "window", "size": self.size, "sinks": self.sinks}

    def visible(self, context: int, causal: bool) -> int:
        size, sinks = min(self.size, context), min(self.sinks, context)
        past = size * (size + 1) // 2 + (context - size) * size
        behind = _staircase(context - size, sinks)
        if causal:
            return past + behind
        ahead = _staircase(sinks - size, sinks)
        return 2 * past - context + behind + ahead

    def window(self) -> int | None:
        return self.size - 1


class BlockStencil(StencilSpec):
    """The query's own block of `size` positions, up to itself if causal (chunked attention, Llama 4)."""

    kind: ClassVar[str | None] = "block"

    size: Annotated[int, Field(ge=1), Gene(8, 1024, "x2")]
    """Positions of a block; the first begins with the sequence."""

    def kernel(self) -> KernelStencil:
        return {"kind": "block", "size": self.size}

    def visible(self, context: int, causal: bool) -> int:
        blocks, rest = divmod(context, self.size)
        if causal:
            return (blocks * self.size * (self.size + 1) + rest * (rest + 1)) // 2
        return blocks * self.size**2 + rest**2

    def window(self) -> int | None:
        return self.size - 1


class DilatedStencil(StencilSpec):
    """Every `dilation`-th position, `size` of them, itself included: t, t - dilation, ... (LongNet, 2307.02486)."""

    kind: ClassVar[str | None] = "dilated"

    size: Annotated[int, Field(ge=1), Gene(4, 256, "x2")]
    """How many positions are seen, the query's own included."""
    dilation: Annotated[int, Field(ge=1), Gene(2, 16, "x2")] = 2
    """Their distance."""

    def kernel(self) -> KernelStencil:
        return {"kind": "dilated", "size": self.size, "dilation": self.dilation}

    def visible(self, context: int, causal: bool) -> int:
        steps, rest = divmod(context, self.dilation)
        past = self.dilation * _staircase(steps, self.size) + rest * min(self.size, steps + 1)
        return past if causal else 2 * past - context

    def window(self) -> int | None:
        return (self.size - 1) * self.dilation


class RingStencil(StencilSpec):
    """Positions at a distance below `size`, modulo `period`: near ones, and those whole periods away."""

    kind: ClassVar[str | None] = "ring"

    size: Annotated[int, Field(ge=1), Gene(1, 64, "x2")]
    """How many of each period are seen; if not causal, on either side."""
    period: Annotated[int, Field(ge=1), Gene(4, 256, "x2")] = 16
    """After how many positions they come again."""

    def kernel(self) -> KernelStencil:
        return {"kind": "ring", "size": self.size, "period": self.period}

    def visible(self, context: int, causal: bool) -> int:
        seen = set(range(min(self.size, self.period)))
        if not causal:
            seen |= {(self.period - step) % self.period for step in seen}
        past = sum(self._pairs(context, residue) for residue in seen)
        return past if causal else 2 * past - context

    def _pairs(self, context: int, residue: int) -> int:
        """Pairs whose distance, not negative, is the residue modulo the period."""
        most = context - 1 - residue
        if most < 0:
            return 0
        turns = most // self.period
        return (turns + 1) * (most + 1) - self.period * turns * (turns + 1) // 2

    def window(self) -> int | None:
        return None


class PrefixStencil(StencilSpec):
    """The first `size` positions, seen by all, those before them too; and what causality allows (Raffel et al. 2020).

    Not causal: next-token tasks refuse it unless these tokens are given and not predicted (`given` of bytes). A decoder
    reads the prefix in one piece.
    """

    kind: ClassVar[str | None] = "prefix"
    masks: ClassVar[bool] = False

    size: Annotated[int, Field(ge=2), Gene(4, 256, "x2")]
    """Positions of the prefix."""

    @property
    def is_causal(self) -> bool:
        return False

    @property
    def both_ways(self) -> int | None:
        return self.size

    def kernel(self) -> KernelStencil:
        return {"kind": "prefix", "size": self.size}

    def visible(self, context: int, causal: bool) -> int:
        if not causal:
            return context * context
        inside = min(self.size, context)
        return context * (context + 1) // 2 + inside * (inside - 1) // 2

    def window(self) -> int | None:
        return None


def _staircase(steps: int, height: int) -> int:
    """1 + 2 + ... over so many steps, each at most `height`: sinks that leave the window one query after another."""
    if steps <= 0:
        return 0
    rising = min(steps, height)
    return rising * (rising + 1) // 2 + (steps - rising) * height
