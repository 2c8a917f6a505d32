"""Chunks whose ends a router finds: against the paper's equations, one token after the other, and decoding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, CONVOLUTION, document, moved, organism, plan, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.chunks.module import Chunks
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
BODY = stage("body", [ATTENTION, CONVOLUTION], repeat=2)
SEED = torch.tensor(0)


def model(**chunks: Any) -> Organism:
    """A stage, one over chunks, and another in float64, with every weight moved."""
    middle = {"name": "deep", "kind": "chunks", "of": BODY, **chunks}
    return moved(organism([stage("a", CONVOLUTION), middle, stage("b", ATTENTION)]))


def part(found: Organism) -> Chunks:
    deep = found.stages["deep"]
    assert isinstance(deep, Chunks)
    return deep


def inputs() -> Tensor:
    return torch.randn(3, 15, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def by_hand(deep: Chunks, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eqs. 4 to 9 of 2507.07955 for each row; p and b."""
    rows, chances, starts = [], [], []
    for x_TD in x:
        p = [x_TD.new_ones(())]
        for t in range(1, len(x_TD)):
            q, k = deep.q @ x_TD[t], deep.k @ x_TD[t - 1]
            p.append(0.5 * (1 - q @ k / (q.norm() * k.norm())))
        b = [bool(chance >= 0.5) for chance in p]
        some = x_TD[[t for t in range(len(x_TD)) if b[t]]]
        if deep.beyond is not None:
            some = torch.cat((some, deep.beyond.expand(len(some), -1)), dim=-1)
        z_ND = deep.of[0](some[None], Flow())[0][:, : x.shape[-1]]
        s_TD, smooth, n = [], torch.zeros_like(x_TD[0]), 0
        for t in range(len(x_TD)):
            if b[t]:
                smooth, n = p[t] * z_ND[n] + (1 - p[t]) * smooth, n + 1
            c = p[t] if b[t] else 1 - p[t]
            s_TD.append((c + (1 - c).detach()) * smooth + deep.residual @ x_TD[t])
        rows.append(torch.stack(s_TD))
        chances.append(torch.stack(p))
        starts.append(torch.tensor(b))
    return torch.stack(rows), torch.stack(chances), torch.stack(starts)


@pytest.mark.parametrize("chunks", [{}, {"width": 24}])
def test_tokens_are_given_their_chunks(chunks: dict[str, Any]) -> None:
    """Outputs, the loss, and gradients of the input and of every weight."""
    deep, x = part(model(size=3.0, ratio_loss=0.5, **chunks)), inputs().requires_grad_()
    theirs, chance_BT, begins_BT = by_hand(deep, x)
    assert 0.1 < begins_BT.double().mean() < 0.9
    flow = Flow(seed=SEED)
    ours = deep.run({"x": [x]}, flow).value()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    share, mean = begins_BT.double().mean(), chance_BT.mean()
    loss = 0.5 * 3.0 / 2.0 * (2.0 * share * mean + (1 - share) * (1 - mean))
    torch.testing.assert_close(flow.losses["ratio"], loss)
    weights, cotangent = [x, *deep.parameters()], torch.randn_like(ours)
    totals = ((ours * cotangent).sum() + flow.losses["ratio"], (theirs * cotangent).sum() + loss)
    found, wanted = (torch.autograd.grad(total, weights) for total in totals)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


def test_documents_begin_chunks_and_keep_apart() -> None:
    """Two texts in a row are what each is alone."""
    deep, x = part(model()), inputs()
    segments_BT = (torch.arange(15) >= 6).long().expand(3, -1)
    packed = deep.run({"x": [x]}, Flow(segments_BT=segments_BT)).value()
    alone = [deep.run({"x": [piece]}, Flow()).value() for piece in x.split([6, 9], dim=1)]
    torch.testing.assert_close(packed, torch.cat(alone, 1), rtol=1e-9, atol=1e-10)


def test_decoding_is_the_whole_pass_and_nothing_looks_ahead() -> None:
    """In pieces, of a hierarchy of two."""
    inner = {"name": "inner", "kind": "chunks", "of": BODY, "width": 32}
    for whole in (model(), model(of=inner, width=24)):
        assert find_leak(whole) is None
        rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
        state, parts = OrganismState(), []
        for piece in rows.split([5, 1, 6], dim=1):
            logits, state = whole.extend(piece, state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), whole(rows), rtol=1e-9, atol=1e-10)


def test_gradients_reach_every_weight() -> None:
    """The router learns through its sureness and by the loss; a residual of zero learns at once."""
    whole = model(width=24)
    rows = torch.randint(256, (4, CONTEXT), generator=torch.Generator().manual_seed(0))
    whole.loss(rows, rows).backward()
    assert [path for path, p in whole.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_the_ratio_is_least_where_chunks_are_as_long_as_asked() -> None:
    """The loss is 1 at F = G = 1 / N, its lowest on the line F = G (section 2.3.2)."""
    deep = part(model(size=4.0))
    at = {
        share: float(deep._ratio(torch.full((1, 100), share), torch.arange(100)[None] < 100 * share))
        for share in (0.1, 0.25, 0.5)
    }
    assert at[0.25] == pytest.approx(1.0)
    assert min(at, key=at.__getitem__) == 0.25


def test_chunks_cost_less_than_tokens() -> None:
    """A quarter of the tokens, less than a quarter of the FLOPs inside, and a quarter of the cache."""
    body = stage("body", ATTENTION)
    dense, deep = plan([{**body, "name": "deep"}]), plan([{"name": "deep", "kind": "chunks", "of": body, "size": 4.0}])
    assert deep.stages[0].children[0][1].flops < 0.25 * dense.stages[0].flops
    assert deep.cache_per_token == dense.cache_per_token / 4
    assert deep.parameters == dense.parameters + 3 * 16 * 16


def test_what_cannot_stand_over_chunks_is_refused() -> None:
    """A narrower stage, a second source, shared keys, and a look ahead."""
    with pytest.raises(AssertionError, match="EVO353"):
        document([{"name": "deep", "kind": "chunks", "of": stage("body", ATTENTION), "width": 8}])
    for bad in (
        {"from": "embedding"},
        {"mix": [{**ATTENTION, "kv_to": "n"}]},
        {"mix": [{**ATTENTION, "causal": False}]},
    ):
        with pytest.raises(AssertionError, match="EVO353"):
            document(
                [stage("a", CONVOLUTION), {"name": "deep", "kind": "chunks", "of": {**stage("body", ATTENTION), **bad}}]
            )


def test_cosines_are_torchs() -> None:
    """The chance is by the cosine, whatever lengths are."""
    deep, x = part(model()), inputs()
    q, k = x[:, 1:] @ deep.q.T, x[:, :-1] @ deep.k.T
    expected = 0.5 * (1 - (F.normalize(q, dim=-1) * F.normalize(k, dim=-1)).sum(-1))
    torch.testing.assert_close(deep._chances(x, None, Flow())[:, 1:], expected, rtol=1e-9, atol=1e-12)
