"""The latent stage: draws a code for each token, from the encoder in training and from a fair coin elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.constant import Constant
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.latent.spec import NAT, LatentPlan
from evo.blocks.stages.stage import Stage
from evo.dsl.spec import KV
from evo.kernels.draws import uniform


class Latent(Stage):
    """codes[:, z_t] for each token t, z_t of `bits` random bits."""

    query: nn.Parameter
    encode: nn.Parameter
    codes: nn.Parameter

    def __init__(self, plan: LatentPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.bits, self.free = plan.bits, plan.free
        numbers_C = torch.arange(2**plan.bits)
        self.signs_NC = Constant((numbers_C >> torch.arange(plan.bits)[:, None] & 1).double())
        """Bit n of code c."""

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        x_BTD = self.merged(inputs["x"])
        z_BTC = self._prior(x_BTD, flow) if flow.seed is None else self._posterior(x_BTD, flow, flow.seed)
        return Residual(flow.project(z_BTC.to(x_BTD.dtype), self.codes).to(x_BTD.dtype))

    def _prior(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """One-hot codes by position alone, (B, T, C): fair bits, the same in every row."""
        tokens = x_BTD.shape[1]
        at_TN = torch.arange(self.bits * tokens, device=x_BTD.device).view(tokens, self.bits)
        is_on_TN = uniform(flow.sample, self._salt(), at_TN + flow.position * self.bits) < 0.5
        return self._one_hot(is_on_TN, x_BTD.dtype).expand(x_BTD.shape[0], -1, -1)

    def _posterior(self, x_BTD: Tensor, flow: Flow, seed: Tensor) -> Tensor:
        """One-hot codes that the encoder draws, (B, T, C), with the gradient of their probabilities. Adds the loss."""
        logits_BTN = self._logits(x_BTD, flow)
        at_BTN = torch.arange(logits_BTN.numel(), device=x_BTD.device).view(logits_BTN.shape)
        is_on_BTN = uniform(seed, self._salt(), at_BTN) < logits_BTN.sigmoid()
        on_BTN, off_BTN = F.logsigmoid(logits_BTN), F.logsigmoid(-logits_BTN)
        entropy_BTN = -(on_BTN.exp() * on_BTN + off_BTN.exp() * off_BTN)
        nats_BT = self.bits * NAT - entropy_BTN.sum(-1)
        flow.add_loss("kl", (nats_BT - self.free).clamp_min(0.0).mean())
        signs_NC = self.signs_NC.like(logits_BTN)
        chance_BTC = (on_BTN @ signs_NC + off_BTN @ (1.0 - signs_NC)).exp()
        return self._one_hot(is_on_BTN, chance_BTC.dtype) + (chance_BTC - chance_BTC.detach())

    def _logits(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """The encoder's logits of each bit, (B, T, N), in float32 or float64: it asks the stream at every position."""
        encoder, norm = self.child("encoder"), self.child("encoder_norm")
        assert isinstance(norm, Norm)
        inner = replace(flow, signals={**flow.signals, KV: x_BTD})
        y_BTD = norm(encoder(self.query.to(x_BTD.dtype).expand(x_BTD.shape), inner), flow)
        return flow.project(y_BTD, self.encode).to(compute_dtype(x_BTD))

    def _one_hot(self, is_on: Tensor, dtype: torch.dtype) -> Tensor:
        """(..., N) bool -> (..., C): 1 at the code that has these bits. By comparison, which `vmap` can do."""
        places_N = 2 ** torch.arange(self.bits, device=is_on.device)
        code = (is_on * places_N).sum(-1, keepdim=True)
        return (code == torch.arange(2**self.bits, device=is_on.device)).to(dtype)

    def _salt(self) -> int:
        """What sets the draws of one stage apart from those of another."""
        return crc32(self.path.encode())
