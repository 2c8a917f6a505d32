"""Convolutions with taps of their own at every token, in plain torch: there is no kernel yet."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from evo.kernels.documents import document_numbers
from evo.kernels.plain import plain_table


def dynamic_convolution(known_BSC: Tensor, taps_BTHW: Tensor, segments_BT: Tensor | None = None) -> Tensor:
    """sum over i < W of taps_t,h,(W-1-i) known_(t-i), (B, T, C), in the dtype of the taps.

    Args:
        known_BSC: the values at the W - 1 tokens before these, zeros where there is none, and at these T.
        taps_BTHW: of H equal parts of the channels, the token's own last.
        segments_BT: integer ids of packed documents; values of another one count as zeros.
    """
    tokens, heads, size = taps_BTHW.shape[1:]
    known_BSHC = known_BSC.to(taps_BTHW.dtype).unflatten(-1, (heads, -1))
    numbers_BT = None if segments_BT is None else document_numbers(segments_BT)
    total_BTHC = known_BSHC.new_zeros(known_BSHC.shape[0], tokens, *known_BSHC.shape[2:])
    for back in range(size):
        weight_BTH, first = taps_BTHW[..., size - 1 - back], size - 1 - back
        if numbers_BT is not None:
            earlier_BT = F.pad(numbers_BT, (back, 0), value=-1)[:, :tokens]
            weight_BTH = weight_BTH * (earlier_BT == numbers_BT)[..., None]
        total_BTHC = total_BTHC + weight_BTH[..., None] * known_BSHC[:, first : first + tokens]
    return total_BTHC.flatten(-2)


TABLE = plain_table("dynamic convolution", dynamic_convolution)
