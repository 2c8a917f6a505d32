"""Five measures in [0, 1] of what each slot of a pool does, defined for pseudopods of any kind.

The definitions are those of a whole variant (`evo.training.behaviour`), asked of one slot's output: every slot runs by
itself on a row of its own, and one backward pass shows how far each reaches back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.blocks.flow import Flow
from evo.blocks.pool.module import Pool
from evo.kernels.structure import reach

MEASURES = (
    "attention_span",
    "activation_sparsity",
    "gradient_flow",
    "memory_locality",
    "computational_intensity",
)
WINDOW = 128
"""Tokens that a look takes in at most."""
TOKENS = 8192
"""How many it takes in over all slots and queries, as each has a row of its own: a look at many costs no more."""
QUERIES = 2
NEAR_ZERO = 0.05


@dataclass(frozen=True)
class Look:
    """What went into a pool in one pass: x (T, D) of the first row, and the pass's flow."""

    x_TD: Tensor
    flow: Flow


def projection(width: int, stream: Stream) -> Tensor:
    """What outputs are projected on to ask how far back they reach: (D,) from N(0, 1), on the host."""
    return torch.randn(width, generator=torch.Generator().manual_seed(stream.integer()))


def measure(pool: Pool, look: Look, gradient_P: Tensor, projection_D: Tensor) -> Tensor:
    """(P, 5) float32 on the pool's device, in the order of `MEASURES`; those of empty slots mean nothing. The host does
    not wait for it.

    attention_span, memory_locality: `reach` of the influence of each earlier input on a random projection of the slot's
        output, at two positions of the later half of the window; 0 where it reaches nowhere.
    activation_sparsity: the share of entries of at most 5 % of the slot's root mean square, in what enters its output
        map.
    gradient_flow: (4 + log10(|gradient| / |weights|)) / 3, clipped; |gradient|^2 as `Vitals` averages it.
    computational_intensity: the participation ratio tr(G)^2 / tr(G^2) of G = h^T h over its width, h what enters the
        output map: an effective rank without a decomposition, and so the share of the slot's FLOPs that a copy of that
        rank would need.
    """
    x_TD = look.x_TD[: min(WINDOW, max(2, TOKENS // (QUERIES * pool.slots)))]
    span_P, near_P, hidden = _reach(pool, x_TD, look.flow, projection_D.to(x_TD.dtype))
    sparsity_P, rank_P = _sparsity(hidden), _rank(hidden)
    weights_P = pool.slot_squares({path: p.detach() for path, p in pool.named_parameters()})
    flow_P = (4.0 + 0.5 * torch.log10((gradient_P / weights_P.clamp_min(1e-30)).clamp_min(1e-24))) / 3.0
    measures = [span_P, sparsity_P, flow_P.float(), near_P, rank_P]
    return torch.stack([values_P.float() for values_P in measures], dim=1).nan_to_num(0.0).clamp(0.0, 1.0)


def _sparsity(hidden: Sequence[Tensor]) -> Tensor:
    """Of vectors (P, N, C), tensor by tensor: the share of near-zero entries of each slot, (P,)."""
    entries = sum(h_PNC[0].numel() for h_PNC in hidden)
    size_P = torch.stack([h_PNC.square().sum((1, 2)) for h_PNC in hidden]).sum(0).div(entries).sqrt()
    limit_P11 = NEAR_ZERO * size_P[:, None, None]
    return torch.stack([(h_PNC.abs() <= limit_P11).float().sum((1, 2)) for h_PNC in hidden]).sum(0) / entries


def _rank(hidden: Sequence[Tensor]) -> Tensor:
    """Of the same: the participation ratio over the width, (P,). What stands in several tensors is of maps that do not
    meet, so G has a block for each."""
    grams = [h_PNC.mT @ h_PNC for h_PNC in hidden]
    trace_P = torch.stack([gram_PCC.diagonal(dim1=-2, dim2=-1).sum(-1) for gram_PCC in grams]).sum(0)
    squares_P = torch.stack([gram_PCC.square().sum((1, 2)) for gram_PCC in grams]).sum(0)
    return trace_P.square() / squares_P.clamp_min(1e-30) / sum(min(h_PNC.shape[1:]) for h_PNC in hidden)


def query_positions(length: int, device: torch.device | str = "cpu") -> Tensor:
    """Up to `QUERIES` positions of the later half of a window, the last among them; none where nothing is past."""
    first, last = max(1, length // 2), length - 1
    return torch.linspace(last, first, min(QUERIES, max(last - first + 1, 0)), device=device).round().long()


def _reach(pool: Pool, x_TD: Tensor, flow: Flow, projection_D: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Span and locality (P,) of each slot, and what enters its output map, see `Apart`."""
    length = x_TD.shape[0]
    queries_Q = query_positions(length, x_TD.device)
    queries = query_positions(length).tolist() or [length - 1]
    firsts = {name: signal[:1, :length] for name, signal in flow.signals.items()}
    signals = {name: signal.expand(len(queries), *signal.shape[1:]) for name, signal in firsts.items()}
    x_RTD = x_TD.detach().expand(len(queries) * pool.slots, -1, -1).clone().requires_grad_(True)
    with torch.enable_grad():
        found = pool.apart(x_RTD, Flow(signals, has_fixed_shapes=True))
        outputs_QPTD = found.outputs_RTD.unflatten(0, (len(queries), -1))
        asked = [outputs_PTD[:, query] for outputs_PTD, query in zip(outputs_QPTD, queries, strict=True)]
        (gradient_RTD,) = torch.autograd.grad((torch.stack(asked) @ projection_D).sum(), x_RTD)
    hidden = [h_PNC.detach().float() for h_PNC in found.hidden]
    influence_QPT = gradient_RTD.norm(dim=-1).float().unflatten(0, (len(queries), -1))
    if not len(queries_Q):
        nothing_P = influence_QPT.new_zeros(pool.slots)
        return nothing_P, nothing_P, hidden
    influence_QPT = influence_QPT * (torch.arange(length, device=x_TD.device) < queries_Q[:, None])[:, None]
    span_PQ, near_PQ = reach(influence_QPT.movedim(0, 1), queries_Q)
    return span_PQ.nanmean(1), near_PQ.nanmean(1), hidden
