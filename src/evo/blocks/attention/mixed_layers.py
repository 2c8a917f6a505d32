"""Keys and values that several layers give."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.attention.layer_mix import LayerMixPlan
from evo.blocks.base import Block
from evo.blocks.flow import Flow


class MixedLayers(Block):
    """sum over layers l and heads g of R[h, (l, g)] k_(l, g), its own layer first; values alike (2502.09245, eq. 4)."""

    keys: nn.Parameter | None
    values: nn.Parameter | None

    def __init__(self, plan: LayerMixPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def mixed(self, k_BTGK: Tensor, v_BTGV: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """Keys and values with those of other layers, and its own for later ones."""
        flow.signals.update(zip(self.plan.gives, (k_BTGK, v_BTGV), strict=False))
        if self.keys is None:
            return k_BTGK, v_BTGV
        found = [(k_BTGK, v_BTGV), *((flow.signals[k], flow.signals[v]) for k, v in self.plan.reads)]
        keys_BTLK, values_BTLV = (torch.cat(heads, dim=2) for heads in zip(*found, strict=True))
        for_values = self.keys if self.values is None else self.values
        return self.keys.to(k_BTGK.dtype) @ keys_BTLK, for_values.to(v_BTGV.dtype) @ values_BTLV

    def note(self, x_BTD: Tensor, flow: Flow) -> None:
        """Leave signals in a pass that only asks what it would run."""
        groups, *widths = self.plan.sizes
        for pair in self.plan.reads:
            flow.signals.update(
                {n: x_BTD.new_empty(*x_BTD.shape[:2], groups, w) for n, w in zip(pair, widths, strict=True)}
            )


def mixed_layers(block: Block) -> MixedLayers | None:
    """What mixes keys and values of an attention with those of other layers, if anything does."""
    found = dict(block.named_children()).get("mix_layers")
    return found if isinstance(found, MixedLayers) else None
