"""The equation of attention, in plain torch. Every other backend is compared with this file."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.attention.mixing import ScoreMix, added, mixed
from evo.kernels.attention.stencil import Stencil


def positions(queries: int, keys: int, offset: int, key_positions_S: Tensor | None, device: torch.device):
    """Absolute positions (T, 1) of the queries and (1, S) of the keys, int64."""
    query_T1 = torch.arange(offset, offset + queries, device=device)[:, None]
    if key_positions_S is None:
        key_positions_S = torch.arange(keys, device=device)
    return query_T1, key_positions_S[None, :]


def visible(stencil: Stencil, query_T1: Tensor, key_1S: Tensor, segments: tuple[Tensor, Tensor] | None) -> Tensor:
    """Boolean mask, (T, S), or (B, 1, T, S) when documents are packed."""
    seen = stencil.allows(query_T1, key_1S)
    if segments is None:
        return seen
    query_BT, key_BS = segments
    return seen & (query_BT[:, None, :, None] == key_BS[:, None, None, :])


def attention(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGV: Tensor,
    *,
    stencil: Stencil,
    scale: float,
    soft_cap: float | None = None,
    sink_logits_H: Tensor | None = None,
    alibi_slopes_H: Tensor | None = None,
    bias_HTS: Tensor | None = None,
    query_offset: int = 0,
    key_positions_S: Tensor | None = None,
    segments: tuple[Tensor, Tensor] | None = None,
    keep_BHTS: Tensor | None = None,
    weigh: str = "softmax",
    mix: ScoreMix | None = None,
) -> Tensor:
    """softmax(cap(q k^T scale) + bias) v over what the stencil allows, the probabilities times `keep_BHTS`; a query
    that sees nothing gets zeros. Products and weights are mixed as `mix` says.

    Computes in float32, or float64 for float64 inputs; returns (B, T, H, V) in the dtype of q.
    """
    B, T, H, K = q_BTHK.shape
    S, G = k_BSGK.shape[1:3]
    compute = torch.promote_types(q_BTHK.dtype, torch.float32)
    q = q_BTHK.to(compute).transpose(1, 2).reshape(B, G, H // G, T, K)
    k = k_BSGK.to(compute).transpose(1, 2).unsqueeze(2)
    v = v_BSGV.to(compute).transpose(1, 2).unsqueeze(2)
    logits_BHTS = (q @ k.transpose(-1, -2)).reshape(B, H, T, S) * scale
    query_T1, key_1S = positions(T, S, query_offset, key_positions_S, q.device)
    seen = visible(stencil, query_T1, key_1S, segments)
    if mix is not None:
        logits_BHTS = mixed(logits_BHTS, mix.before, mix.composed_before, seen, segments)
    if soft_cap is not None:
        logits_BHTS = soft_cap * torch.tanh(logits_BHTS / soft_cap)
    products_BHTS = logits_BHTS
    if alibi_slopes_H is not None:
        distance_TS = (query_T1 - key_1S).abs().to(compute)
        logits_BHTS = logits_BHTS - alibi_slopes_H.to(compute)[:, None, None] * distance_TS
    if bias_HTS is not None:
        logits_BHTS = logits_BHTS + bias_HTS.to(compute)
    logits_BHTS = logits_BHTS if mix is None else added(products_BHTS, logits_BHTS, mix.network)
    if weigh == STICK_BREAKING:
        seen = seen & (key_1S < query_T1)
    other = WEIGHTS.get(weigh)
    weights = masked_softmax(logits_BHTS, seen, sink_logits_H) if other is None else other(logits_BHTS, seen)
    if mix is not None:
        weights = mixed(weights, mix.after, mix.composed_after, seen, segments)
    if keep_BHTS is not None:
        weights = weights * keep_BHTS.to(compute)
    o = weights.reshape(B, G, H // G, T, S) @ v
    return o.reshape(B, H, T, v.shape[-1]).transpose(1, 2).to(q_BTHK.dtype)


def masked_softmax(logits_BHTS: Tensor, seen: Tensor, sink_logits_H: Tensor | None) -> Tensor:
    """Softmax over the seen keys; a learned sink joins the sum and is dropped (gpt-oss). Blind rows are zero."""
    logits = logits_BHTS.masked_fill(~seen, float("-inf"))
    if sink_logits_H is not None:
        sink = sink_logits_H.to(logits.dtype)[None, :, None, None].expand(*logits.shape[:-1], 1)
        return torch.cat([logits, sink], dim=-1).softmax(dim=-1)[..., :-1]
    blind = (logits == float("-inf")).all(dim=-1, keepdim=True)
    return logits.masked_fill(blind, 0.0).softmax(dim=-1).masked_fill(blind, 0.0)


def masked_sigmoid(logits_BHTS: Tensor, seen: Tensor) -> Tensor:
    """sigmoid of each logit by itself (Ramapuram et al. 2409.04431)."""
    return logits_BHTS.sigmoid().masked_fill(~seen, 0.0)


def masked_softpick(logits_BHTS: Tensor, seen: Tensor) -> Tensor:
    """relu(e^x - 1) / (sum |e^x - 1| + eps) (Zuhri et al. 2504.20966), both times e^-m, m the largest logit or 0."""
    most = logits_BHTS.detach().masked_fill(~seen, 0.0).amax(-1, keepdim=True).clamp_min(0.0)
    one = (-most).exp()
    above = ((logits_BHTS - most).exp() - one).masked_fill(~seen, 0.0)
    return above.relu() / (above.abs().sum(-1, keepdim=True) + SOFTPICK_EPS * one)


def masked_stick_breaking(logits_BHTS: Tensor, seen: Tensor) -> Tensor:
    """sigmoid(z_s) prod_(u > s) (1 - sigmoid(z_u)): the nearest key takes its share of 1, the next of what is left (Tan
    et al. 2410.17980). Keys stand in the order of their positions."""
    left_BHTS = F.logsigmoid(-logits_BHTS).masked_fill(~seen, 0.0)
    after_BHTS = left_BHTS.flip(-1).cumsum(-1).flip(-1) - left_BHTS
    return (F.logsigmoid(logits_BHTS) + after_BHTS).exp().masked_fill(~seen, 0.0)


def masked_sparsemax(logits_BHTS: Tensor, seen: Tensor) -> Tensor:
    """The nearest point of the simplex to the logits: relu(x - tau) of sum 1 (Martins & Astudillo 1602.02068)."""
    x = below_the_largest(logits_BHTS, seen)
    sorted_x, count = ranked(x)
    sums = sorted_x.cumsum(-1)
    support = (1.0 + count * sorted_x > sums).sum(-1, keepdim=True)
    tau = (sums.gather(-1, support - 1) - 1.0) / support
    return (x - tau).relu().masked_fill(~seen, 0.0)


def masked_entmax(logits_BHTS: Tensor, seen: Tensor) -> Tensor:
    """relu(x / 2 - tau)^2 of sum 1: 1.5-entmax, between softmax and sparsemax (Peters et al. 1905.05702)."""
    x = below_the_largest(logits_BHTS, seen) / 2.0
    sorted_x, count = ranked(x)
    means = sorted_x.cumsum(-1) / count
    spread = sorted_x.square().cumsum(-1) - count * means.square()
    # an exact 0 has no finite slope of its root, and where this is 0 or less no support ends
    taus = means - ((1.0 - spread) / count).clamp_min(TINY).sqrt()
    support = (taus <= sorted_x).sum(-1, keepdim=True)
    return (x - taus.gather(-1, support - 1)).relu().square().masked_fill(~seen, 0.0)


def below_the_largest(logits_BHTS: Tensor, seen: Tensor) -> Tensor:
    """Logits less the row's largest seen one, and -4 at least, where neither sparsemax nor entmax gives any weight."""
    most = logits_BHTS.masked_fill(~seen, float("-inf")).amax(-1, keepdim=True).clamp_min(LOWEST)
    return (logits_BHTS - most).masked_fill(~seen, -4.0).clamp_min(-4.0)


def ranked(x: Tensor) -> tuple[Tensor, Tensor]:
    """The last axis from the largest on, and the rank of each, from 1."""
    return x.sort(-1, descending=True).values, torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)


def masked_relu(logits_BHTS: Tensor, seen: Tensor) -> Tensor:
    """relu of each logit (Wortsman et al. 2309.08586, who divide it by the length)."""
    return logits_BHTS.relu().masked_fill(~seen, 0.0)


def masked_relu2(logits_BHTS: Tensor, seen: Tensor) -> Tensor:
    """relu squared of each logit (Hua et al. 2202.10447, who divide the logit by the length)."""
    return masked_relu(logits_BHTS, seen).square()


SOFTPICK_EPS = 1e-6
TINY = 1e-30
LOWEST = -1e30
STICK_BREAKING = "stick_breaking"
"""Of these weights, a query has none for its own key."""
WEIGHTS = {
    "sigmoid": masked_sigmoid,
    "softpick": masked_softpick,
    STICK_BREAKING: masked_stick_breaking,
    "sparsemax": masked_sparsemax,
    "entmax": masked_entmax,
    "relu": masked_relu,
    "relu2": masked_relu2,
}
"""What may stand in softmax's place."""
