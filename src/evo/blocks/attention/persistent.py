"""Keys and values that belong to no token, learned and seen by every query (Sukhbaatar et al. 2019; Titans)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.attention import Stencil
from evo.kernels.attention.reference import positions, visible


def remembering(run: Callable[..., Any], keys_NGK: Tensor, values_NGV: Tensor) -> Callable[..., Any]:
    """`attend`, or its `plan`, with these keys and values before those of tokens, whatever the stencil shows."""

    def widened(
        q_BTHK: Tensor,
        k_BSGK: Tensor,
        v_BSGV: Tensor,
        *,
        stencil: Stencil,
        query_offset: int = 0,
        key_positions_S: Tensor | None = None,
        segments_BT: Tensor | None = None,
        **settings: Any,
    ) -> Any:
        batch, tokens = q_BTHK.shape[:2]
        places = positions(tokens, k_BSGK.shape[1], query_offset, key_positions_S, q_BTHK.device)
        seen = visible(stencil, *places, None if segments_BT is None else (segments_BT, segments_BT))
        bias = torch.zeros(seen.shape, device=seen.device, dtype=q_BTHK.dtype).masked_fill(~seen, -torch.inf)
        keys, values = (
            torch.cat((own.to(of_tokens.dtype).expand(batch, *own.shape), of_tokens), dim=1)
            for own, of_tokens in ((keys_NGK, k_BSGK), (values_NGV, v_BSGV))
        )
        bias_HTS = F.pad(bias, (keys_NGK.shape[0], 0))
        return run(q_BTHK, keys, values, stencil=Stencil(causal=False), bias_HTS=bias_HTS, **settings)

    return widened
