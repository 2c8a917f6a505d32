"""The scan in log2(T) passes over the sequence (Hillis & Steele 1986), in runs that bound its memory."""

from __future__ import annotations

import torch
from torch import Tensor

RUN = 256
"""Tokens that are scanned at once; the state goes from run to run."""


def states(decay_BTX: Tensor, input_BTX: Tensor, before_BX: Tensor) -> Tensor:
    """See `reference.states`."""
    found: list[Tensor] = []
    for decay, inputs in zip(decay_BTX.split(RUN, 1), input_BTX.split(RUN, 1), strict=True):
        found.append(_run(decay, inputs, before_BX))
        before_BX = found[-1][:, -1] if inputs.shape[1] else before_BX
    return torch.cat(found, dim=1) if len(found) != 1 else found[0]


def _run(decay: Tensor, inputs: Tensor, before_BX: Tensor) -> Tensor:
    if not inputs.shape[1]:
        return inputs.clone()
    state = torch.cat((torch.addcmul(inputs[:, :1], decay[:, :1], before_BX[:, None]), inputs[:, 1:]), dim=1)
    reach = 1
    while reach < inputs.shape[1]:
        state = torch.cat((state[:, :reach], torch.addcmul(state[:, reach:], decay[:, reach:], state[:, :-reach])), 1)
        decay = torch.cat((decay[:, :reach], decay[:, reach:] * decay[:, :-reach]), dim=1)
        reach *= 2
    return state
