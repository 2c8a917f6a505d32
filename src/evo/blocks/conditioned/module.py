"""A mixer bent by a condition, and the mean of what came before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.conditioned.spec import INPUT, OUTPUT, ConditionedPlan
from evo.blocks.flow import Flow, State
from evo.dsl.plan import BlockPlan
from evo.kernels.dispatch import KernelCall
from evo.kernels.grouped import Groups


@dataclass(frozen=True)
class MeanState(State):
    """The sum over the tokens of the segment so far, (B, D), and how many tokens there were in all."""

    total_BD: Tensor
    seen: int


class Conditioned(Block):
    """main(x), with h = silu(W c) bending its input, its output, or what some of its maps give."""

    inner: nn.Parameter
    inner_bias: nn.Parameter
    main: Block

    def __init__(self, plan: ConditionedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.source, self.segment = plan.source, plan.segment
        self.places, self.parts = plan.places, plan.parts

    @classmethod
    def weight_names(cls, plan: BlockPlan) -> frozenset[str]:
        """The maps of each place are named by the plan."""
        return frozenset(weight.name for weight in plan.weights)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        if self.source:
            return self._bent(x_BTD, flow.signals[self.source], flow)
        return self._bent(x_BTD, self._mean(x_BTD, None, flow.segments_BT)[0], flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> MeanState:
        """Nothing summed; nothing will be where a stage is the condition."""
        kept, width = torch.promote_types(dtype, torch.float32), 0 if self.source else self.inner.shape[1]
        return MeanState(torch.zeros(batch, width, device=device, dtype=kept), 0)

    def extend(self, x_BTD: Tensor, state: MeanState, flow: Flow) -> tuple[Tensor, MeanState]:
        """The next T positions."""
        if self.source:
            return self.forward(x_BTD, flow), state
        mean_BTD, state = self._mean(x_BTD, state, None)
        return self._bent(x_BTD, mean_BTD, flow), state

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of the mixer."""
        return self.main.problems(x_BTD, flow)

    def _mean(self, x_BTD: Tensor, state: MeanState | None, segments_BT: Tensor | None) -> tuple[Tensor, MeanState]:
        """The mean over each token's segment and document so far, and the state behind the last."""
        state = state or self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype)
        tokens, wide_BTD = x_BTD.shape[1], x_BTD.to(compute_dtype(x_BTD))
        size = self.segment or state.seen + tokens + 1
        places_T = torch.arange(state.seen, state.seen + tokens, device=x_BTD.device)
        goes_on_T = places_T // size == (state.seen - 1) // size if state.seen else places_T < 0
        counts_BT = torch.where(goes_on_T, state.seen % size, 0)
        if self.segment is None and segments_BT is None:
            sums_BTD = wide_BTD.cumsum(1)
            counts_BT = counts_BT + places_T - state.seen + 1
        else:
            sees, within = places_T[:, None] >= places_T, places_T
            if segments_BT is not None:  # each document counts from its own first token
                sees = sees & (segments_BT[:, :, None] == segments_BT[:, None, :])
                within = sees.sum(-1) - 1
            sees = sees & (within[..., :, None] // size == within[..., None, :] // size)
            sums_BTD = sees.to(wide_BTD.dtype) @ wide_BTD
            counts_BT = counts_BT + sees.sum(-1)
        sums_BTD = sums_BTD + goes_on_T[:, None] * state.total_BD[:, None]
        seen = state.seen + tokens
        total_BD = sums_BTD[:, -1] if seen % size else torch.zeros_like(sums_BTD[:, -1])
        return (sums_BTD / counts_BT[..., None]).to(x_BTD.dtype), MeanState(total_BD, seen)

    def _bent(self, x_BTD: Tensor, c_BTD: Tensor, flow: Flow) -> Tensor:
        h_BTH = F.silu(flow.project(c_BTD, self.inner, self.inner_bias))
        inside = {getattr(self.main, name): name for name in self.places if name not in (INPUT, OUTPUT)}

        def project(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
            y = flow.project(x, weight, bias, groups)
            return self._at(inside[weight], x, y, h_BTH, flow) if weight in inside else y

        if INPUT in self.places:
            x_BTD = self._at(INPUT, x_BTD, x_BTD, h_BTH, flow)
        bent = replace(flow, project=project, is_bound=True, tells_weights_apart=True) if inside else flow
        y_BTD = bent.run(self.main, x_BTD)
        return self._at(OUTPUT, y_BTD, y_BTD, h_BTH, flow) if OUTPUT in self.places else y_BTD

    def _at(self, place: str, x_BTC: Tensor, y_BTC: Tensor, h_BTH: Tensor, flow: Flow) -> Tensor:
        """What stands at a place, made of x there, as the condition bends it."""
        if not self.parts:
            gate_BTR = flow.project(h_BTH, getattr(self, f"{place}_gate"))
            down_BTR = flow.project(x_BTC, getattr(self, f"{place}_down"))
            return y_BTC + flow.project(gate_BTR * down_BTR, getattr(self, f"{place}_up"))
        if "scale" in self.parts:
            y_BTC = y_BTC * (1 + flow.project(h_BTH, getattr(self, f"{place}_scale")))
        return y_BTC + flow.project(h_BTH, getattr(self, f"{place}_shift")) if "shift" in self.parts else y_BTC
