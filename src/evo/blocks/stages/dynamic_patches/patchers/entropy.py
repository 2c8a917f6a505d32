"""A patcher that cuts where a small model of its own expects much of the next token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.stages.dynamic_patches.patchers.module import Patcher
from evo.blocks.stages.dynamic_patches.patchers.spec import EntropyPlan
from evo.blocks.stages.stage import Stage
from evo.dsl.spec import TOKENS


class Entropy(Patcher):
    """-sum_v p_v ln p_v > threshold, with p = softmax(readout norm(f(table[tokens])))."""

    table: nn.Parameter
    readout: nn.Parameter
    norm: Norm

    def __init__(self, plan: EntropyPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.threshold, self.loss = plan.threshold, plan.loss
        body = next(iter(children.values()))
        assert isinstance(body, Stage)
        self.of = (body,)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T). The layers keep states of their own. Where it is trained, adds its loss."""
        del x_BTD
        tokens_BT = flow.signals[TOKENS]
        logits_BTV = self.logits(tokens_BT, flow)
        if self.loss and flow.seed is not None:
            self._add_loss(logits_BTV, tokens_BT, flow)
        log_p_BTV = logits_BTV.detach().log_softmax(-1)
        entropy_BT = -(log_p_BTV.exp() * log_p_BTV).sum(-1)
        flow.tell("next_token_entropy", entropy_BT.mean())
        return entropy_BT > self.threshold

    def logits(self, tokens_BT: Tensor, flow: Flow) -> Tensor:
        """The small model's logits of the token behind each, (B, T, V), in float32 or float64."""
        # nothing is dropped, so that patches end in training where they end elsewhere
        inner = replace(flow, signals={TOKENS: tokens_BT}, dropout=None)
        residual = self.of[0].run({"x": [F.embedding(tokens_BT, self.table)]}, inner)
        logits_BTV = flow.project(residual.normed(self.norm, flow)[1], self.readout)
        return logits_BTV.to(compute_dtype(logits_BTV))

    def _add_loss(self, logits_BTV: Tensor, tokens_BT: Tensor, flow: Flow) -> None:
        """The cross-entropy of each token behind another of its document."""
        losses_BT = F.cross_entropy(logits_BTV[:, :-1].mT, tokens_BT[:, 1:], reduction="none")
        counts_BT = losses_BT.new_ones(losses_BT.shape)
        if flow.segments_BT is not None:
            counts_BT = (flow.segments_BT[:, 1:] == flow.segments_BT[:, :-1]).to(losses_BT.dtype)
        flow.add_loss("patcher", (losses_BT * counts_BT).sum() / counts_BT.sum().clamp_min(1.0), self.loss)
