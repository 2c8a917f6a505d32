"""A memory of many slots, of which each query finds the best by two small sets of keys."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.product_keys.spec import ProductKeysPlan
from evo.kernels.fused import ACTS


class ProductKeys(Block):
    """sum over heads and best slots of share * value (Lample et al. 1907.05242, eqs. 1 to 6)."""

    in_torch = ("product keys",)
    chooses = True

    q: nn.Parameter
    keys: nn.Parameter
    values: nn.Parameter
    inner: nn.Parameter | None
    gate: nn.Parameter | None
    o: nn.Parameter | None

    def __init__(self, plan: ProductKeysPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        self.act = ACTS[plan.act] if plan.act else None

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        slots_BTHP, shares_BTHP = self.found(x_BTD, flow)
        slots_BTS, shares_BTS = slots_BTHP.flatten(-2), shares_BTHP.flatten(-2).to(x_BTD.dtype)
        if self.inner is not None and self.act is not None:
            met_BTSD = F.embedding(slots_BTS, self.inner).to(x_BTD.dtype)
            shares_BTS = shares_BTS * self.act((met_BTSD @ x_BTD[..., None])[..., 0])
        read_BTSD = F.embedding(slots_BTS, self.values).to(x_BTD.dtype)
        y_BTD = (shares_BTS[..., None, :] @ read_BTSD)[..., 0, :]
        if self.gate is None or self.o is None:
            return y_BTD
        return flow.project(y_BTD * F.silu(flow.project(x_BTD, self.gate)), self.o)

    def found(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """The best slots of each head, int64, and the shares they count by, each (B, T, H, P)."""
        plan = self.plan
        q_BTHC = flow.project(x_BTD, self.q).unflatten(-1, (plan.heads, plan.dim))
        norm = self._modules.get("q_norm")
        if isinstance(norm, Norm):
            q_BTHC = norm(q_BTHC, flow)
        halves = q_BTHC.to(compute_dtype(x_BTD)).unflatten(-1, (2, -1))
        keys = self.keys.to(halves.dtype).unflatten(0, (plan.heads, 2))
        scores = torch.einsum("bthsc,hsnc->bthsn", halves, keys)
        best, places = scores.topk(min(plan.top, plan.keys), -1)
        sums = (best[..., 0, :, None] + best[..., 1, None, :]).flatten(-2)
        slots = (places[..., 0, :, None] * plan.keys + places[..., 1, None, :]).flatten(-2)
        chosen, among = sums.topk(plan.top, -1)
        return slots.gather(-1, among), chosen.softmax(-1)
