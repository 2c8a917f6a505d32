"""What decoding keeps of keys and values, where that is not all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from evo.blocks.attention.kept import slots
from evo.blocks.attention.plan import AttentionPlan
from evo.blocks.attention.scored import Scored
from evo.blocks.attention.state import AttentionState
from evo.blocks.base import Block
from evo.blocks.cache.heavy import attention_got, kept_slots, taken
from evo.blocks.cache.policy import SINKS
from evo.blocks.flow import Flow
from evo.kernels.attention import Stencil, attend


class Keeping(Scored):
    """An attention that keeps what its stencil shows, or what a cache policy leaves."""

    def __init__(self, plan: AttentionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.stencil = Stencil(**plan.stencil, causal=plan.causal)
        self.kept = plan.cost.cache_limit
        """How many positions a cache keeps at most, the first of them the stencil's sinks; None for all."""

    def _evicted(
        self, q_BTHK: Tensor, keys: Tensor, kept: AttentionState, past_BSG: Tensor | None, flow: Flow
    ) -> AttentionState:
        """What each key head keeps: the latest positions, and those before them that got most attention.

        past_BSG: the attention that the keys before these queries had got before them.
        """
        # values here are as wide as there are keys: no kernel is asked for by name
        run = partial(attend, stencil=self.stencil, key_positions_S=self._slots(keys, flow), **self._parts(q_BTHK))
        got_BSG = attention_got(run, q_BTHK, keys, flow.position)
        if past_BSG is not None:
            got_BSG = got_BSG + F.pad(past_BSG, (0, 0, 0, q_BTHK.shape[1]))
        limit, heavy = self._limits(flow)
        if limit is None or keys.shape[1] <= limit:
            return replace(kept, got_BSG=got_BSG)
        slots_BNG = kept_slots(got_BSG, heavy, limit - heavy)
        keep = partial(taken, slots_BNG=slots_BNG)
        return AttentionState(*kept.kept(keep), got_BSG.take_along_dim(slots_BNG, dim=1))

    def _slots(self, keys_BSGK: Tensor, flow: Flow) -> Tensor | None:
        """The position of each key, or None where key s stands at s. The cached keys are sinks, a gap, the latest.

        Those that a head keeps for the attention that they got stand in for sinks: every later query sees them.
        """
        return slots(keys_BSGK, flow.position, *self._limits(flow))

    def _limits(self, flow: Flow) -> tuple[int | None, int]:
        """How many positions are kept at most, and how many of these are the first ones."""
        if self.kept is not None or "select" in self._modules:
            return self.kept, self.stencil.sinks
        if self.plan.cost.evicting_heads and flow.cache.heavy is not None:
            return flow.cache.evicting_limit, flow.cache.heavy
        return flow.cache.limit, SINKS
