"""Positions that count what a query finds between itself and a key."""

from __future__ import annotations

from torch import Tensor, nn

from evo.blocks.base import Distances, Position, compute_dtype, looked_up
from evo.blocks.flow import Flow


class Contextual(Position):
    """q_t e(p_ts), p_ts the sum of sigmoid(q_t k_u scale) over s <= u <= t (CoPE, Golovneva et al. 2405.18719)."""

    vectors: nn.Parameter

    def bias_by_keys(self, q_BTHK: Tensor, keys_BSGK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor | None:
        compute = compute_dtype(q_BTHK)
        q_BGJTK = q_BTHK.to(compute).transpose(1, 2).unflatten(1, (keys_BSGK.shape[2], -1))
        scores_BHTS = (q_BGJTK @ keys_BSGK.to(compute).permute(0, 2, 3, 1)[:, :, None]).flatten(1, 2)
        counts = at.of_TS >= 0
        if flow.segments_BT is not None:
            counts = counts & (flow.segments_BT[:, None, :, None] == flow.segments_BT[:, None, None, :])
        gates_BHTS = (scores_BHTS * scale).sigmoid().masked_fill(~counts, 0.0)
        last = len(self.vectors) - 1
        places_BHTS = gates_BHTS.flip(-1).cumsum(-1).flip(-1).clamp_max(last)
        below_BHTS = places_BHTS.detach().floor()
        by_place_BHTP = flow.project(q_BTHK, self.vectors).to(compute).transpose(1, 2)
        low, high = (
            looked_up(by_place_BHTP, at_BHTS.long()) for at_BHTS in (below_BHTS, (below_BHTS + 1).clamp_max(last))
        )
        return low + (places_BHTS - below_BHTS) * (high - low)
