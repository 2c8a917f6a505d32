"""The ends of an organism: from tokens to the first stage, and from the last stage to what meets the readout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.activation.module import Activation
from evo.blocks.base import Block, Norm, compute_dtype, parameter
from evo.blocks.flow import Flow
from evo.blocks.position.module import Order
from evo.compiler.plan import Plan
from evo.dsl.plan import BlockPlan
from evo.kernels.fused import ACTS

Make = Callable[[BlockPlan], Block]


class Embedding(nn.Module):
    """norm(gain * (project(scale * table[token]) + bias) + positions): what there is of it."""

    weight: nn.Parameter
    position: nn.Parameter | None
    project: nn.Parameter | None
    bias: nn.Parameter | None
    gain: nn.Parameter | None

    def __init__(self, plan: Plan, make: Make) -> None:
        super().__init__()
        self.scale, self.norms_tokens = plan.embedding_scale, plan.norms_tokens
        self.projects_last = plan.projects_last
        for name in ("position", "project", "bias", "gain"):
            self.register_parameter(name, None)
        for weight in (*plan.embedding, *plan.embedding_maps):
            self.register_parameter(weight.name, parameter(weight))
        self.norm = None if plan.embedding_norm is None else make(plan.embedding_norm)
        self.order = None if plan.order is None else make(plan.order)

    def placed(self, x_BTE: Tensor, flow: Flow) -> Tensor:
        """The vectors of tokens as they enter the first stage, (B, T, E) -> (B, T, D).

        Raises:
            ValueError: there are more tokens than learned positions.
        """
        x_BTE = x_BTE if self.scale is None else x_BTE * self.scale
        if self.projects_last:
            return self._mapped(self._ordered(x_BTE, flow), flow)
        return self._ordered(self._mapped(x_BTE, flow), flow)

    def _mapped(self, x_BTE: Tensor, flow: Flow) -> Tensor:
        """As wide as the stream, with bias and gains."""
        if self.project is not None:
            x_BTE = flow.project(x_BTE, self.project, self.bias)
        elif self.bias is not None:
            x_BTE = x_BTE + self.bias
        return x_BTE if self.gain is None else x_BTE * self.gain

    def _ordered(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """With positions, and normed."""
        if self.norms_tokens and isinstance(self.norm, Norm):
            x_BTD = self.norm(x_BTD, flow)
        end = flow.position + x_BTD.shape[1]
        if self.position is not None:
            if end > self.position.shape[0]:
                raise ValueError(
                    f"{end} tokens exceed the {self.position.shape[0]} positions this organism has learned"
                )
            x_BTD = x_BTD + self.position[flow.position : end]
        if isinstance(self.order, Order):
            x_BTD = x_BTD + self.order.vectors(flow.position, end, x_BTD)
        return self.norm(x_BTD, flow) if isinstance(self.norm, Norm) and not self.norms_tokens else x_BTD


@dataclass(frozen=True)
class Read:
    """What meets the readout's weights, (..., E), and the bias of logits, (V,); in a mixture of softmaxes, a vector for
    each, (..., K, E), and the logarithms of their shares, (..., K)."""

    h: Tensor
    bias_V: Tensor | None
    log_share: Tensor | None = None


class Readout(nn.Module):
    """norm(act(W h + b)), maps of a mixture, the scale and bias of logits, and a table of its own: what there is of
    it."""

    weight: nn.Parameter | None
    transform: nn.Parameter | None
    transform_bias: nn.Parameter | None
    mixture: nn.Parameter | None
    mixture_bias: nn.Parameter | None
    share: nn.Parameter | None
    bias: nn.Parameter | None
    gain: nn.Parameter | None

    def __init__(self, plan: Plan, make: Make) -> None:
        super().__init__()
        for name in ("weight", "transform", "transform_bias", "mixture", "mixture_bias", "share", "bias", "gain"):
            self.register_parameter(name, None)
        for weight in (*((plan.readout,) if plan.readout is not None else ()), *plan.readout_maps):
            self.register_parameter(weight.name, parameter(weight))
        self.scale, self.word, self.mixed = plan.readout_scale, plan.readout_act, plan.readout_mixture
        self.is_unit = plan.readout_is_unit
        for name, block in plan.readout_blocks:
            self.add_module(name, make(block))

    def read(self, h_BTD: Tensor, flow: Flow) -> Read:
        """(..., D) -> what logits are made of."""
        if self.transform is not None:
            h_BTD = self._activated(flow.project(h_BTD, self.transform, self.transform_bias), flow)
            norm = self._modules.get("norm")
            h_BTD = norm(h_BTD, flow) if isinstance(norm, Norm) else h_BTD
        log_share, bias_V = None, self.bias
        if self.mixed is not None and self.mixture is not None and self.share is not None:
            count, act = self.mixed
            share = flow.project(h_BTD, self.share)
            log_share = F.log_softmax(share.to(compute_dtype(share)), dim=-1)
            h_BTD = ACTS[act](flow.project(h_BTD, self.mixture, self.mixture_bias)).unflatten(-1, (count, -1))
        if self.scale is not None:
            h_BTD, bias_V = h_BTD * self.scale, None if bias_V is None else bias_V * self.scale
        return Read(h_BTD, bias_V, log_share)

    def form(self, weight_VE: Tensor) -> Tensor:
        """What its weights, or the table of tokens, are read as, (V, E)."""
        form_VE = F.normalize(weight_VE, dim=-1, eps=1e-30) if self.is_unit else weight_VE
        return form_VE if self.gain is None else form_VE * self.gain[:, None].to(form_VE.dtype)

    def _activated(self, h_BTD: Tensor, flow: Flow) -> Tensor:
        act = self._modules.get("act")
        if isinstance(act, Activation):
            return act(h_BTD, flow)
        return ACTS[self.word](h_BTD) if self.word else h_BTD
