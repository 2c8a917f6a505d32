"""Which positions a query may see."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.spec import Spec


class StencilSpec(Spec):
    """A pattern of visible positions."""

    def visible(self, context: int, causal: bool) -> int:
        """The number of visible (query, key) pairs in a full context."""
        raise NotImplementedError

    def window(self) -> int | None:
        """How many recent tokens a decoder must keep for the next; None for all."""
        raise NotImplementedError


class FullStencil(StencilSpec):
    """Every position (before the query, if causal)."""

    kind: ClassVar[str | None] = "full"

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


def _staircase(steps: int, height: int) -> int:
    """1 + 2 + ... over so many steps, each at most `height`: sinks that leave the window one query after another."""
    if steps <= 0:
        return 0
    rising = min(steps, height)
    return rising * (rising + 1) // 2 + (steps - rising) * height
