"""A loop: one stage several times on a state that what the loop reads is injected into."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from zlib import crc32

import torch
from torch import Tensor, nn

from evo.base.streams import Stream
from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.loop.spec import MOST_TIMES, LoopPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.dispatch import KernelCall
from evo.kernels.draws import uniform


class Loop(Stage):
    """s <- f(inject(s, x)), so often."""

    adapter: nn.Parameter | None
    start: nn.Parameter | None

    def __init__(self, plan: LoopPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        body = next(iter(children.values()))
        assert isinstance(body, Stage)
        self.of = (body,)

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D), the last sum left open."""
        x_BTD = self.merged(inputs["x"])
        state, times = Residual(self._first(x_BTD, flow)), self._times(flow)
        cut = 0 if self.plan.backprop is None else times - self.plan.backprop
        for turn in range(times):
            if 0 < turn == cut:
                state = Residual(state.value().detach())
            s_BTD = self._normed(state, flow)
            state = self.of[0].run({"x": [self._injected(s_BTD, x_BTD, flow)]}, flow)
        return state

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of its stage, once."""
        yield from self.of[0].layer_problems(x_BTD, flow)

    def _normed(self, state: Residual, flow: Flow) -> Tensor:
        norm = self._modules.get("norm")
        return state.normed(norm, flow)[1] if isinstance(norm, Norm) else state.value()

    def _injected(self, s_BTD: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        if self.adapter is not None:
            return flow.project(torch.cat((s_BTD, x_BTD), dim=-1), self.adapter).to(x_BTD.dtype)
        return s_BTD if self.plan.inject == "none" else s_BTD + x_BTD

    def _first(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """The state before the first turn."""
        if self.start is not None:
            return self.start.to(x_BTD.dtype).expand(x_BTD.shape)
        if self.plan.start == "random":
            return self._noise(x_BTD, flow)
        return x_BTD if self.plan.start == "input" else torch.zeros_like(x_BTD)

    def _noise(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """Normal numbers, (B, T, D): a row's own in training; elsewhere by place alone, as decoding has them."""
        shape = x_BTD.shape if flow.seed is not None else (1, *x_BTD.shape[1:])
        at = torch.arange(math.prod(shape), device=x_BTD.device).view(shape)
        if flow.seed is None:
            at = at + flow.position * x_BTD.shape[-1]
        seed = flow.sample if flow.seed is None else flow.seed
        chance = uniform(seed, crc32(self.path.encode()), at).to(torch.float64) + 2.0**-25
        return (math.sqrt(2.0) * torch.erfinv(2.0 * chance - 1.0)).to(x_BTD.dtype).expand(x_BTD.shape)

    def _times(self, flow: Flow) -> int:
        """How often this pass runs it. A draw makes the host wait for the seed, so no CUDA graph holds such a step."""
        plan = self.plan
        if flow.seed is None:
            return plan.score_times
        if plan.spread is None:
            return plan.times
        draws = Stream(int(flow.seed)).child("times", self.path).numpy()
        rate = math.exp(draws.normal(math.log(plan.times - 1) - plan.spread**2 / 2, plan.spread))
        return 1 + min(int(draws.poisson(rate)), MOST_TIMES - 1)
