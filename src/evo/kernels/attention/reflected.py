"""Attention through products of Householder matrices (PaTH, Yang et al. 2505.16381): queries meet keys chunk by chunk.

score(t, s) = scale k_s H_{s+1} ... H_t q_t, H_j = I - beta_j w_j w_j^T, plus the logs of the gates in between. The
products of a chunk are one triangular system (its UT transform); README.md of `evo.blocks.path_attention` has it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evo.kernels.plain import plain_table

CHUNK = 64
"""Tokens of a parallel pass that meet each other in one triangle."""


@dataclass(frozen=True)
class Keys:
    """Keys so far, as the query at the last of them sees them, (B, S, G, K). Of all positions, later ones too: values
    (B, N, G, K), the sums of log forget gates (B, N, H), and which document each is of, (B, N)."""

    k_BSGK: Tensor
    v_BNGK: Tensor
    forgot_BNH: Tensor | None
    documents_BN: Tensor | None


def attend_reflected(
    q_BTHK: Tensor, k_BTGK: Tensor, w_BTGK: Tensor, beta_BTG: Tensor, keys: Keys, scale: float
) -> tuple[Tensor, Tensor]:
    """What T queries read, (B, T, H, K), and all keys as the last of them sees them, (B, S + T, G, K).

    keys: those before. w: unit vectors. All of one dtype, float32 or wider.
    """
    found: list[Tensor] = []
    for begin in range(0, q_BTHK.shape[1], CHUNK):
        q, k, w, beta = (x[:, begin : begin + CHUNK] for x in (q_BTHK, k_BTGK, w_BTGK, beta_BTG))
        o_BCHK, keys = _chunk(q, k, w, beta, keys, scale)
        found.append(o_BCHK)
    return torch.cat(found, dim=1), keys.k_BSGK


def _chunk(
    q_BCHK: Tensor, k_BCGK: Tensor, w_BCGK: Tensor, beta_BCG: Tensor, keys: Keys, scale: float
) -> tuple[Tensor, Keys]:
    """What C queries read, (B, C, H, K), and the keys as the last of them sees them."""
    heads = k_BCGK.shape[2]
    q = q_BCHK.unflatten(2, (heads, -1)).permute(0, 2, 3, 1, 4)  # (B, G, R, C, K)
    k, w, past = (x.transpose(1, 2) for x in (k_BCGK, w_BCGK, keys.k_BSGK))  # (B, G, ..., K)
    weighed = w * beta_BCG.transpose(1, 2)[..., None]
    sides = torch.cat((weighed, (weighed @ k.transpose(-1, -2)).tril(-1)), dim=-1)
    lower = (weighed @ w.transpose(-1, -2)).tril(-1)
    solved = torch.linalg.solve_triangular(lower, sides, upper=False, unitriangular=True)
    through, met = solved.split([w.shape[-1], k.shape[2]], dim=-1)  # X and M
    on_w = (q @ w.transpose(-1, -2)[:, :, None]).tril()
    inside = (q @ k.transpose(-1, -2)[:, :, None]).tril() - on_w @ met[:, :, None]
    earlier = (q - on_w @ through[:, :, None]) @ past.transpose(-1, -2)[:, :, None]
    scores = scale * torch.cat((earlier, inside), dim=-1)  # (B, G, R, C, S)
    o = _read(scores, keys)
    k = k - met.transpose(-1, -2) @ w
    past = past - (past @ through.transpose(-1, -2)) @ w
    seen = torch.cat((past, k), dim=2).transpose(1, 2)
    return o.permute(0, 3, 1, 2, 4).flatten(2, 3), replace(keys, k_BSGK=seen)


def _read(scores_BGRCS: Tensor, keys: Keys) -> Tensor:
    """The means of values by softmax, (B, G, R, C, K), over what each query may see."""
    C, S = scores_BGRCS.shape[-2:]
    if keys.forgot_BNH is not None:
        forgot_BHS = keys.forgot_BNH[:, :S].transpose(1, 2)
        fallen_BHCS = forgot_BHS[..., -C:, None] - forgot_BHS[..., None, :]
        scores_BGRCS = scores_BGRCS + fallen_BHCS.unflatten(1, scores_BGRCS.shape[1:3])
    sees = torch.ones(C, S, dtype=torch.bool, device=scores_BGRCS.device).tril(S - C)
    if keys.documents_BN is not None:
        documents_BS = keys.documents_BN[:, :S]
        same_BCS = documents_BS[:, -C:, None] == documents_BS[:, None]
        sees = (sees & same_BCS)[:, None, None]
    weights = scores_BGRCS.masked_fill(~sees, float("-inf")).softmax(-1)
    return weights @ keys.v_BNGK[:, :S].transpose(1, 2)[:, :, None]


TABLE = plain_table("reflected attention", attend_reflected)
