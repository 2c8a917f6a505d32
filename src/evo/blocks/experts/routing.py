"""Which experts each token meets and how much each counts: pure functions of logits. Equations in README.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.experts.router import RouterSpec
from evo.kernels.documents import document_numbers, document_starts
from evo.kernels.fused import soft_capped

QUERY_ROWS = 64
"""How many positions are ranked at a time, so that comparisons with all earlier ones fit in memory."""


@dataclass(frozen=True)
class Routes:
    """The choices of each token.

    chosen_BTP: int64, P choices among the classes. shares_BTP: how much each counts, 0 for one that was not granted.
    granted_BTP: whether it was. shared_BTG: how much each of the G shared experts counts that the router weighs.
    """

    chosen_BTP: Tensor
    shares_BTP: Tensor
    granted_BTP: Tensor
    shared_BTG: Tensor


def _sqrt_softplus(x: Tensor) -> Tensor:
    return F.softplus(x).sqrt()


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits_BTE: logits_BTE.softmax(-1),
    "sigmoid": torch.sigmoid,
    "sqrt_softplus": _sqrt_softplus,
    "relu": torch.relu,
}


def scores_of(logits_BTE: Tensor, router: RouterSpec) -> Tensor:
    """The scores of all classes, (B, T, E)."""
    return SCORES[router.score](soft_capped(logits_BTE, router.soft_cap))


def rivalled(logits_BTE: Tensor, chosen_BTP: Tensor, margin: float) -> Tensor:
    """The scores of choices, best first, each among those left that are near it, (B, T, P).

    Near is below it by at most `margin` times the larger of both sizes (SparseMixer, 2409.12136).
    """
    scores: list[Tensor] = []
    for chosen_BT1 in chosen_BTP.split(1, -1):
        own_BT1 = logits_BTE.gather(-1, chosen_BT1)
        with torch.no_grad():
            is_far = (own_BT1 - logits_BTE) / torch.maximum(logits_BTE.abs(), own_BT1) > margin
        scores.append((own_BT1 - logits_BTE.masked_fill(is_far, -torch.inf).logsumexp(-1, keepdim=True)).exp())
        logits_BTE = logits_BTE.scatter(-1, chosen_BT1, -torch.inf)
    return torch.cat(scores, dim=-1)


def best(choice_BTE: Tensor, top: int, router: RouterSpec) -> Tensor:
    """The `top` best classes by `choice_BTE`, within the best groups: (B, T, P) int64."""
    if router.groups > 1:
        grouped_BTGE = choice_BTE.unflatten(-1, (router.groups, -1))
        members = min(2, grouped_BTGE.shape[-1]) if router.group_score == "top2" else 1
        worth_BTG = grouped_BTGE.topk(members, -1).values.sum(-1)
        least_BT1 = worth_BTG.topk(router.top_groups, -1).values[..., -1:]
        hidden_BTG1 = (worth_BTG < least_BT1)[..., None]
        choice_BTE = grouped_BTGE.masked_fill(hidden_BTG1, -torch.inf).flatten(-2)
    return choice_BTE.topk(top, -1).indices


def hashed(tokens_BT: Tensor, top: int, count: int) -> Tensor:
    """`top` experts by the token's id alone, (B, T, P) int64: Knuth's multiplicative hash, and those that follow."""
    mixed_BT = (tokens_BT * 2_654_435_761 % 2**32) >> 8
    return (mixed_BT[..., None] + torch.arange(top, device=tokens_BT.device)) % count


def weighed(scores_BTP: Tensor, granted_BTP: Tensor, router: RouterSpec) -> Tensor:
    """The shares of choices by their scores, (B, T, P).

    Where experts choose, or scores say how many a token meets, the sum that shares are divided by is over the granted
    ones; a token that comes too late for an expert's capacity loses that share instead.
    """
    if router.choose == "each_expert" or router.top_p is not None:
        scores_BTP = scores_BTP * granted_BTP
    if router.renormalise:
        total_BT1 = scores_BTP.sum(-1, keepdim=True) + router.eps
        scores_BTP = scores_BTP / total_BT1.clamp_min(torch.finfo(total_BT1.dtype).tiny)
    return scores_BTP * granted_BTP * router.scale


def before_mass(scores_BTP: Tensor, mass: float) -> Tensor:
    """Whether the scores of the choices that stand before each one sum to less than `mass`, (B, T, P) bool."""
    return scores_BTP.detach().cumsum(-1) - scores_BTP.detach() < mass


def within(chosen_BTP: Tensor, before_BE: Tensor, limit: int, segments_BT: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which choices find room in an expert that takes the first `limit` tokens of a document.

    Args:
        before_BE: how many tokens each expert has taken of the first document so far.

    Returns:
        (B, T, P) bool, False for choices of classes beyond the E experts too; the counts after the last token, (B, E).
    """
    experts_E = torch.arange(before_BE.shape[1], device=chosen_BTP.device)
    asks_BTE = (chosen_BTP[..., None] == experts_E).sum(-2).to(before_BE.dtype)
    total_BTE = before_BE[:, None] + asks_BTE.cumsum(1)
    if segments_BT is not None:
        at_start_BTE = torch.where(document_starts(segments_BT)[..., None], total_BTE - asks_BTE, 0.0)
        total_BTE = total_BTE - at_start_BTE.cummax(1).values
    has_room_BTE = total_BTE - asks_BTE < limit
    is_expert_BTP = chosen_BTP < before_BE.shape[1]
    room_BTP = has_room_BTE.gather(-1, chosen_BTP.clamp_max(before_BE.shape[1] - 1))
    return room_BTP & is_expert_BTP, total_BTE[:, -1]


def taken(scores_BTE: Tensor, past_BSE: Tensor, fraction: float, segments_BT: Tensor | None, causal: bool) -> Tensor:
    """Which tokens are among the best `fraction` of an expert's, (B, T, E) bool.

    causal: of the tokens of its document so far, itself included; else of all of them.
    past_BSE: the scores of the S tokens before these, of the first document.
    """
    all_BSE = torch.cat((past_BSE, scores_BTE), dim=1).detach()
    seen = past_BSE.shape[1]
    places_S = torch.arange(all_BSE.shape[1], device=all_BSE.device)
    documents_BS = None if segments_BT is None else F.pad(document_numbers(segments_BT), (seen, 0))
    parts: list[Tensor] = []
    for rows_Q in places_S[seen:].split(QUERY_ROWS):
        rivals_BQS = (places_S <= rows_Q[:, None]) if causal else places_S.new_ones(len(rows_Q), len(places_S)).bool()
        rivals_BQS = rivals_BQS[None]
        if documents_BS is not None:
            rivals_BQS = rivals_BQS & (documents_BS[:, rows_Q, None] == documents_BS[:, None])
        better_BQSE = (all_BSE[:, None] > all_BSE[:, rows_Q, None]) & rivals_BQS[..., None]
        room_BQ = (fraction * rivals_BQS.sum(-1).double() - 1e-9).ceil()
        parts.append(better_BQSE.sum(2) < room_BQ[..., None])
    return torch.cat(parts, dim=1)


def loads(chosen_BTP: Tensor, granted_BTP: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """The share of all granted choices that each class has, (E,); zeros where there are none."""
    is_chosen_NE = chosen_BTP.flatten()[:, None] == torch.arange(classes, device=chosen_BTP.device)
    counts_E = (is_chosen_NE & granted_BTP.flatten()[:, None]).to(dtype).sum(0)
    return counts_E / counts_E.sum().clamp_min(1.0)
