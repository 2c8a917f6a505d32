"""The short convolutions of one pass through an attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.attention.plan import AttentionPlan
from evo.blocks.attention.taps import TapsSpec
from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.shift import shifted
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import AUTO, KernelCall


class TapWeights(NamedTuple):
    """Those of one projection: depthwise taps (C, W), or the map to shares ((W - 1) H, D), the matrices of a second
    convolution (H, K, W' K), the latest token's channels last, and a bias of each (C,)."""

    taps_CW: Tensor | None
    shares: Tensor | None
    mix: Tensor | None
    taps_bias_C: Tensor | None
    mix_bias_C: Tensor | None


@dataclass
class Taps:
    """Runs them, or, where `calls` is a list, notes what they would ask for.

    before: what each convolution read at the latest W - 1 positions by name, zeros where there is none; after: the same
    for who comes next.
    """

    spec: TapsSpec | None
    before: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    calls: list[KernelCall] | None = None
    backend: str = AUTO
    after: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __call__(self, name: str, x_BTC: Tensor, weights: TapWeights | None, read_BTD: Tensor, flow: Flow) -> Tensor:
        """The projection of that name, (B, T, C), of what was read, as its taps leave it."""
        if self.spec is None or weights is None:
            return x_BTC
        bias_C, is_last = weights.taps_bias_C, weights.mix is None
        act = None if self.spec.act == "none" or not is_last else self.spec.act
        if weights.taps_CW is None:
            y_BTC = self._shared(name, x_BTC, weights, read_BTD, flow)
            y_BTC = y_BTC + bias_C.to(y_BTC.dtype) if bias_C is not None and is_last else y_BTC
            y_BTC = F.silu(y_BTC) if act else y_BTC
        else:
            taps_CW = weights.taps_CW
            taps_CW = taps_CW.repeat_interleave(x_BTC.shape[-1] // len(taps_CW), dim=0)
            if self.calls is not None:
                self.calls.append(plan_convolution(x_BTC, taps_CW, activation=act))
                return x_BTC
            y_BTC, self.after[name] = short_convolution(
                x_BTC,
                taps_CW,
                bias_D=bias_C if is_last else None,
                activation=act,
                state_BWD=self.before.get(name),
                segments_BT=flow.segments_BT,
                backend=self.backend,
            )
        if weights.mix is not None:
            y_BTC = self._mixed(f"{name}_mix", y_BTC, weights.mix, weights, flow)
        return x_BTC + y_BTC if self.spec.residual is True else y_BTC

    def paired(self, q_BTHK: Tensor, k_BTGK: Tensor, raw_q_BTC: Tensor, raw_k_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys with the means of both before their taps, where these are added."""
        if self.spec is None or self.spec.residual != "paired":
            return q_BTHK, k_BTGK
        raw_q_BTGRK = raw_q_BTC.view_as(q_BTHK).unflatten(2, (k_BTGK.shape[2], -1))
        means_BTGRK = (raw_q_BTGRK + raw_k_BTC.view_as(k_BTGK)[:, :, :, None]) * 0.5
        return q_BTHK + means_BTGRK.flatten(2, 3), k_BTGK + means_BTGRK.mean(3)

    def late(self, name: str, x_BTC: Tensor, bias_C: Tensor | None, flow: Flow) -> Tensor:
        """What the token before has, (B, T, C), zeros at the first, and the bias."""
        before_BWC, self.after[name] = self.before.get(name), x_BTC[:, -1:]
        y_BTC = shifted(x_BTC, None if before_BWC is None else before_BWC[:, -1], flow.segments_BT)
        return y_BTC if bias_C is None else y_BTC + bias_C.to(y_BTC.dtype)

    def _mixed(self, name: str, x_BTC: Tensor, mix: Tensor, weights: TapWeights, flow: Flow) -> Tensor:
        """act(bias + sum over the taps of a head's matrix times its channels then).

        Before the first token the first convolution gives its bias, so that is added here, and zeros stand there.
        """
        assert self.spec is not None
        heads = mix.shape[0]
        read_BTWC = torch.stack(self._latest(name, x_BTC, self.spec.mix or 1, flow)[::-1], dim=2)
        if weights.taps_bias_C is not None:
            read_BTWC = read_BTWC + weights.taps_bias_C.to(x_BTC.dtype)
        read_HBTX = read_BTWC.unflatten(-1, (heads, -1)).permute(3, 0, 1, 2, 4).flatten(-2)
        y_BTC = flow.project(read_HBTX, mix).movedim(0, 2).flatten(-2)
        if weights.mix_bias_C is not None:
            y_BTC = y_BTC + weights.mix_bias_C.to(y_BTC.dtype)
        return F.silu(y_BTC) if self.spec.act == "silu" else y_BTC

    def _latest(self, name: str, x_BTC: Tensor, count: int, flow: Flow) -> list[Tensor]:
        """What stands at each of so many latest positions, the own one first; keeps it for who comes next."""
        before_BWC, parts = self.before.get(name), [x_BTC]
        for back in range(1, count):
            before_BC = None if before_BWC is None else before_BWC[:, -back]
            parts.append(shifted(parts[-1], before_BC, flow.segments_BT))
        self.after[name] = torch.cat((x_BTC[:, :0], *(part[:, -1:] for part in reversed(parts[:-1]))), dim=1)
        return parts

    def _shared(self, name: str, x_BTC: Tensor, weights: TapWeights, read_BTD: Tensor, flow: Flow) -> Tensor:
        """The sum of the latest tokens by shares that each token makes for each head."""
        assert self.spec is not None
        assert weights.shares is not None
        logits_BTWH = flow.project(read_BTD, weights.shares).unflatten(-1, (self.spec.size - 1, -1))
        shares_BTWH = F.pad(logits_BTWH, (0, 0, 1, 0)).softmax(2)
        read_BTWC = torch.stack(self._latest(name, x_BTC, self.spec.size, flow), dim=2)
        read_BTWHK = read_BTWC.unflatten(-1, (shares_BTWH.shape[-1], -1))
        return (read_BTWHK * shares_BTWH[..., None].to(x_BTC.dtype)).sum(2).flatten(-2)


class Tapped(Block):
    """A block whose queries, keys and values may have taps, and some values be those of the token before."""

    plan: AttentionPlan
    v_late: nn.Parameter | None
    v_late_bias: nn.Parameter | None

    q_taps: nn.Parameter | None
    k_taps: nn.Parameter | None
    v_taps: nn.Parameter | None
    q_shares: nn.Parameter | None
    k_shares: nn.Parameter | None
    v_shares: nn.Parameter | None
    q_taps_bias: nn.Parameter | None
    k_taps_bias: nn.Parameter | None
    v_taps_bias: nn.Parameter | None
    q_mix: nn.Parameter | None
    k_mix: nn.Parameter | None
    v_mix: nn.Parameter | None
    q_mix_bias: nn.Parameter | None
    k_mix_bias: nn.Parameter | None
    v_mix_bias: nn.Parameter | None

    def tap_weights(self, name: str) -> TapWeights | None:
        """Those of one projection, if it has taps."""
        kinds = ("taps", "shares", "mix", "taps_bias", "mix_bias")
        found = TapWeights(*(getattr(self, f"{name}_{kind}", None) for kind in kinds))
        return None if found.taps_CW is None and found.shares is None else found

    def untapped(self, like: Tensor) -> dict[str, Tensor]:
        """What is kept of the past before the first token: zeros. like: of their rows, device and dtype."""
        found = {} if self.v_late is None else {"v_late": like.new_zeros(len(like), 1, self.v_late.shape[0])}
        if (spec := self.plan.taps) is None:
            return found
        for name in spec.on:
            channels = self.plan.channels[name]
            found[name] = like.new_zeros(len(like), spec.size - 1, channels)
            if spec.mix is not None:
                found[f"{name}_mix"] = like.new_zeros(len(like), spec.mix - 1, channels)
        return found
