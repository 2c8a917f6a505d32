"""Structured feed-forwards; the forms of maps are in README.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.feedforward.module import Units
from evo.blocks.flow import Flow
from evo.blocks.structured.spec import StructuredPlan
from evo.kernels.fused import ACTS, GATED, gated

Act = Callable[[Tensor], Tensor]
Form = Callable[[Tensor, Tensor, Tensor | None, Flow], Tensor]
"""(..., in) by a map's factors, the outer and the inner one, -> (..., out)."""


def on_diagonal(x: Tensor, blocks_EOI: Tensor, flow: Flow) -> Tensor:
    """Each part of the channels by a map of its own, (..., E, I) -> (..., E, O)."""
    return flow.project(x.movedim(-2, 0), blocks_EOI).movedim(0, -2)


def of_blocks(x: Tensor, outer: Tensor, inner: Tensor | None, act: Act, flow: Flow) -> Tensor:
    """Blocks on a diagonal, (..., in) -> (..., out)."""
    del inner, act
    return on_diagonal(x.unflatten(-1, (outer.shape[0], -1)), outer, flow).flatten(-2)


def monarch(x: Tensor, outer: Tensor, inner: Tensor | None, act: Act, flow: Flow) -> Tensor:
    """Blocks, act, channels interleaved, blocks, channels interleaved."""
    assert inner is not None
    met = act(on_diagonal(x.unflatten(-1, (inner.shape[0], -1)), inner, flow).flatten(-2))
    return on_diagonal(met.unflatten(-1, (-1, outer.shape[0])).mT, outer, flow).mT.flatten(-2)


def kronecker(x: Tensor, outer: Tensor, inner: Tensor | None, act: Act, flow: Flow) -> Tensor:
    """(inner ⊗ outer) x, with act between the two."""
    assert inner is not None
    parts = act(flow.project(x.unflatten(-1, (inner.shape[1], -1)), outer))
    return flow.project(parts.mT, inner).mT.flatten(-2)


def low_rank(x: Tensor, outer: Tensor, inner: Tensor | None, act: Act, flow: Flow) -> Tensor:
    """outer act(inner x)."""
    assert inner is not None
    return flow.project(act(flow.project(x, inner)), outer)


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor | None, Act, Flow], Tensor]] = {
    "blocks": of_blocks,
    "monarch": monarch,
    "kronecker": kronecker,
    "low_rank": low_rank,
}


def form_of(form: str, act: str) -> Form:
    """How a map of two factors meets its input, with an activation between them."""
    function, between = FORMS[form], ACTS[act or "identity"]
    return lambda x, outer, inner, flow: function(x, outer, inner, between, flow)


class Structured(Units):
    """down(act(up(x))), or down(act(gate(x)) * up_act(up(x)))."""

    up: nn.Parameter
    down: nn.Parameter
    gate: nn.Parameter | None
    up_inner: nn.Parameter | None
    down_inner: nn.Parameter | None
    gate_inner: nn.Parameter | None
    up_bias: nn.Parameter | None
    down_bias: nn.Parameter | None
    gate_bias: nn.Parameter | None

    def __init__(self, plan: StructuredPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children, plan.act)
        self.form, self.up_act = form_of(plan.form, plan.factor_act), ACTS[plan.up_act or "identity"]
        if self.gate is not None and self.own_act is None:
            self.fused = (GATED,)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        up_BTF = self._mapped(x_BTD, self.up, self.up_inner, self.up_bias, flow)
        if self.gate is not None:
            gate_BTF = self._mapped(x_BTD, self.gate, self.gate_inner, self.gate_bias, flow)
            up_BTF = self.up_act(up_BTF)
            if self.own_act is not None:
                hidden_BTF = self.own_act.gated(gate_BTF, up_BTF, flow)
            else:
                hidden_BTF = gated(gate_BTF, up_BTF, self.word, backend=self.fused_backend)
        else:
            hidden_BTF = ACTS[self.word](up_BTF) if self.own_act is None else self.own_act(up_BTF, flow)
        return self._mapped(self.normed(hidden_BTF, flow), self.down, self.down_inner, self.down_bias, flow)

    def _mapped(self, x: Tensor, outer: Tensor, inner: Tensor | None, bias: Tensor | None, flow: Flow) -> Tensor:
        y = self.form(x, outer, inner, flow)
        return y if bias is None else y + bias.to(y.dtype)
