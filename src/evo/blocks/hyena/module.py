"""Hyena as a mixer; equations in README.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.constant import Constant
from evo.blocks.flow import Flow, State
from evo.blocks.hyena.spec import HyenaPlan
from evo.kernels.convolution import long_convolution, short_convolution
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_numbers

SLOWEST, FASTEST = math.log(1e-2) / 1.5, math.log(1e-2) / 0.3
"""Rates of the windows: those of the first and of the last channel fall to 1 % over 1.5 and 0.3 contexts."""


@dataclass(frozen=True)
class HyenaState(State):
    """The inputs of each long convolution so far, (B, S, D) each, and the short convolution's latest inputs."""

    past_BSD: tuple[Tensor, ...]
    taps_BWX: Tensor


class FilterLayer(Block):
    """W x + b."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(L, in) -> (L, out)."""
        return flow.project(x_BTD, self.weight, self.bias)


class Hyena(Block):
    """o(v) with v <- x_n * (h_n conv v + skip_n v) for each n."""

    x: nn.Parameter
    taps: nn.Parameter
    taps_bias: nn.Parameter
    skip: nn.Parameter
    o: nn.Parameter
    frequency: nn.Parameter

    def __init__(self, plan: HyenaPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        self.positions = Constant(tap_features(plan.context, plan.bands))
        self.layers = tuple(child for child in children.values() if isinstance(child, FilterLayer))
        self.window = Constant(windows(plan.context, plan.width, plan.shift))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The short convolution; the long ones are FFTs of torch."""
        streams_BTX = flow.project(x_BTD, self.x)
        return [plan_convolution(streams_BTX, self.taps, bias_D=self.taps_bias)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> HyenaState:
        """No input yet."""
        streams, size = self.taps.shape
        empty_BSD = torch.zeros(batch, 0, self.plan.width, device=device, dtype=dtype)
        taps_BWX = torch.zeros(batch, size - 1, streams, device=device, dtype=dtype)
        return HyenaState((empty_BSD,) * self.plan.order, taps_BWX)

    def extend(self, x_BTD: Tensor, state: HyenaState, flow: Flow) -> tuple[Tensor, HyenaState]:
        """The next T positions. Raises ValueError beyond the context, where filters end."""
        return self._mix(x_BTD, state, flow)

    def _mix(self, x_BTD: Tensor, state: HyenaState | None, flow: Flow) -> tuple[Tensor, HyenaState]:
        streams_BTX, taps_BWX = short_convolution(
            flow.project(x_BTD, self.x),
            self.taps,
            bias_D=self.taps_bias,
            state_BWD=None if state is None else state.taps_BWX,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        v_BTD, *gates = streams_BTX.chunk(self.plan.order + 1, -1)
        kept: list[Tensor] = []
        for index, (filter_DL, gate_BTD) in enumerate(zip(self.filters(x_BTD, flow), gates, strict=True)):
            seen_BSD = v_BTD if state is None else torch.cat((state.past_BSD[index], v_BTD), dim=1)
            kept.append(seen_BSD)
            v_BTD = gate_BTD * self._convolved(seen_BSD, v_BTD.shape[1], filter_DL, self.skip[index], flow)
        return flow.project(v_BTD, self.o), HyenaState(tuple(kept), taps_BWX)

    def _convolved(self, seen_BSD: Tensor, tokens: int, filter_DL: Tensor, skip_D: Tensor, flow: Flow) -> Tensor:
        """The last `tokens` outputs of the long convolution."""
        total = seen_BSD.shape[1]
        if total > self.plan.context:
            raise ValueError(f"{total} tokens exceed the context of {self.plan.context}, where filters end")
        if flow.segments_BT is None:
            return long_convolution(seen_BSD, filter_DL, skip_D=skip_D)[:, total - tokens :]
        numbers_BS = torch.nn.functional.pad(document_numbers(flow.segments_BT), (total - tokens, 0))
        return _convolved_by_document(seen_BSD, filter_DL, skip_D, numbers_BS)[:, total - tokens :]

    def filters(self, like: Tensor, flow: Flow) -> tuple[Tensor, ...]:
        """The taps of each long convolution, (D, context), the token's own first, in float32 or wider."""
        dtype = compute_dtype(like)
        hidden_LF = self.positions.like(like, dtype)
        *layers, last = self.layers
        for layer in layers:
            hidden_LF = (self.frequency * layer(hidden_LF.to(self.frequency.dtype), flow).to(dtype)).sin()
        taps_LND = last(hidden_LF.to(self.frequency.dtype), flow).to(dtype).unflatten(-1, (self.plan.order, -1))
        windowed_LND = taps_LND * self.window.like(like, dtype)[:, None]
        return tuple(windowed_LND[:, index].t() for index in range(self.plan.order))


def tap_features(context: int, bands: int) -> Tensor:
    """What the filters' network knows of each tap: t in [0, 1], and cos and -sin of bands, (context, 1 + 2 bands)
    float64."""
    t_L = torch.linspace(0, 1, context, dtype=torch.float64)
    turns_L = 2 * math.pi * torch.arange(context, dtype=torch.float64) / context
    angles_LF = turns_L[:, None] * torch.linspace(1e-4, bands - 1, bands, dtype=torch.float64)
    return torch.cat((t_L[:, None], angles_LF.cos(), -angles_LF.sin()), dim=1)


def windows(context: int, width: int, shift: float) -> Tensor:
    """exp(-t |rate|) + shift by channel, (context, width) float64."""
    t_L = torch.linspace(0, 1, context, dtype=torch.float64)
    rates_D = torch.linspace(SLOWEST, FASTEST, width, dtype=torch.float64).abs()
    return (-t_L[:, None] * rates_D).exp() + shift


def _convolved_by_document(x_BSD: Tensor, filter_DL: Tensor, skip_D: Tensor, numbers_BS: Tensor) -> Tensor:
    """The long convolution within each document: one after another, each with the others at zero."""
    total = torch.zeros_like(x_BSD)
    for number in range(int(numbers_BS.max()) + 1):
        is_own_BS1 = (numbers_BS == number)[..., None]
        own_BSD = long_convolution(x_BSD * is_own_BS1, filter_DL, skip_D=skip_D)
        total = total + own_BSD * is_own_BS1
    return total
