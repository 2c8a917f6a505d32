"""Stencils: what a spec tells the kernels and the decoder, for the kinds there are and for those of another package."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from block_variants import built, inputs

from evo.blocks.attention.spec import AttentionSpec
from evo.blocks.attention.stencils import (
    BlockStencil,
    DilatedStencil,
    FullStencil,
    KernelStencil,
    RingStencil,
    StencilSpec,
    WindowStencil,
)
from evo.blocks.base import Block, state_size
from evo.blocks.flow import Flow
from evo.blocks.position.spec import RopeSpec
from evo.dsl.spec import Scope
from evo.kernels.attention import Stencil
from strangers.surroundings import StridedSpec

TIME = 17


class Paragraph(StencilSpec):
    """The query's own block, and the first positions."""

    kind: ClassVar[str | None] = "paragraph"

    def kernel(self) -> KernelStencil:
        """Blocks with sinks."""
        return {"kind": "block", "size": 5, "sinks": 2}

    def visible(self, context: int, causal: bool) -> int:
        """Counted one query after another."""
        assert causal
        return sum(t % 5 + 1 + min(2, 5 * (t // 5)) for t in range(context))

    def window(self) -> int | None:
        """The rest of a block."""
        return 4


class Ring(StencilSpec):
    """Positions on a ring: near ones, and those a whole number of turns away."""

    kind: ClassVar[str | None] = "ring-road"

    def kernel(self) -> KernelStencil:
        """A ring."""
        return {"kind": "ring", "size": 2, "period": 6}

    def visible(self, context: int, causal: bool) -> int:
        """Counted one query after another."""
        return sum((t - s) % 6 < 2 for t in range(context) for s in range(t + 1))

    def window(self) -> int | None:
        """All: turns have no end."""
        return None


STENCILS = {
    "full": FullStencil(),
    "window": WindowStencil(size=4),
    "sinks": WindowStencil(size=3, sinks=2),
    "block": BlockStencil(size=5),
    "dilated": DilatedStencil(size=3, dilation=4),
    "ring of a period": RingStencil(size=2, period=5),
    "strided": StridedSpec(),
    "paragraph": Paragraph(),
    "ring": Ring(),
}
EVERY_STENCIL = pytest.mark.parametrize("stencil", STENCILS.values(), ids=STENCILS)


def mask(stencil: StencilSpec, time: int) -> torch.Tensor:
    """(T, T): whether query t sees key s, by the kernels' definition."""
    positions = torch.arange(time)
    return Stencil(**stencil.kernel()).allows(positions[:, None], positions[None, :])


def attention(stencil: StencilSpec) -> Block:
    """A float64 attention over a stencil, from its spec to its module."""
    scope = Scope(width=16, context=TIME, depth=1, position=RopeSpec())
    return built(AttentionSpec(heads=2, stencil=stencil).plan(scope))


@EVERY_STENCIL
@pytest.mark.parametrize("context", [1, 2, 5, TIME])
def test_visible_pairs_are_those_of_the_kernel(stencil: StencilSpec, context: int) -> None:
    """What a stencil counts is what the kernels show."""
    assert stencil.visible(context, True) == int(mask(stencil, context).sum())


@EVERY_STENCIL
def test_a_decoder_keeps_what_is_seen(stencil: StencilSpec) -> None:
    """No query sees a key that is neither a sink, nor among the recent ones that are kept, nor itself."""
    window, sinks = stencil.window(), stencil.kernel().get("sinks", 0)
    seen = mask(stencil, 40)
    for t in range(40):
        kept = {*range(min(sinks, t)), *range(0 if window is None else max(0, t - window), t + 1)}
        assert set(seen[t].nonzero().flatten().tolist()) <= kept
    assert stencil.kept() == (None if window is None else window + sinks)


@EVERY_STENCIL
def test_a_block_sees_what_its_stencil_shows(stencil: StencilSpec) -> None:
    """An output depends on an input exactly where the kernels' mask says so."""
    x = inputs(TIME, batch=1).requires_grad_()
    y = attention(stencil)(x, Flow())
    for t in range(TIME):
        (gradient,) = torch.autograd.grad(y[0, t].square().sum(), x, retain_graph=True)
        assert torch.equal(gradient[0].abs().sum(-1) > 1e-14, mask(stencil, TIME)[t])


@EVERY_STENCIL
@pytest.mark.parametrize("chunk", [1, 4])
def test_decoding_equals_the_whole(stencil: StencilSpec, chunk: int) -> None:
    """Chunk by chunk from its cache, a block says what it says of the whole, and keeps no more than planned."""
    module, x = attention(stencil), inputs(TIME, batch=2)
    state, parts = module.initial_state(2, "cpu", x.dtype), []
    for start in range(0, TIME, chunk):
        y, state = module.extend(x[:, start : start + chunk], state, Flow(position=start))
        parts.append(y)
        limit = stencil.kept()
        assert limit is None or state_size(state) <= 2 * 2 * 16 * limit
    torch.testing.assert_close(torch.cat(parts, 1), module(x, Flow()), rtol=1e-10, atol=1e-12)


def test_a_stencil_that_hides_nothing_is_told() -> None:
    """One that masks within a context it never reaches is EVO331, by whatever name; `full` is not."""
    scope = Scope(width=16, context=2, depth=1, position=RopeSpec())
    found = {
        name: [problem.code for problem in AttentionSpec(heads=2, stencil=stencil).problems(scope)]
        for name, stencil in STENCILS.items()
    }
    assert found == {name: ["EVO331"] if name not in {"full", "strided", "dilated"} else [] for name in STENCILS}
