"""Link slots against the loop that they are: search, attend to the best, store."""

from __future__ import annotations

import torch
from block_variants import block_of, built, inputs, plan

from evo.blocks.base import Block
from evo.blocks.flow import Flow

HEADS, SLOTS, TOP, DIM = 2, 5, 3, 8


def our() -> Block:
    """Two heads in float64, with moved weights."""
    block = {"kind": "link_slots", "heads": HEADS, "slots": SLOTS, "top": TOP}
    return built(block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": block}]}}]), "0"))


def test_search_attend_store() -> None:
    """Token by token, with values and the gradients of input and weights."""
    module, x = our(), inputs(17, batch=1).requires_grad_()
    named = dict(module.named_parameters())
    rows: list[torch.Tensor] = []
    stored: list[list[torch.Tensor]] = [[] for _ in range(HEADS)]
    for t in range(17):
        heads = []
        for head, q in enumerate((named["q"] @ x[0, t]).split(DIM)):
            ranked = sorted(stored[head][-SLOTS:], key=lambda m, q=q: -float((q @ m).detach()))[:TOP]
            found = torch.stack([*ranked, q])
            heads.append((found @ q * DIM**-0.5).softmax(0) @ found)
            stored[head].append(q)
        rows.append(named["o"] @ torch.cat(heads))
    wanted, mine = torch.stack(rows), module(x, Flow())[0]
    torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-12)
    cotangent = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sources = [x, *named.values()]
    found, expected = (torch.autograd.grad((y * cotangent).sum(), sources) for y in (mine, wanted))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_a_document_reads_nothing_of_another() -> None:
    """Packed into one row, each gets what it gets alone."""
    module, x = our(), inputs(9)
    packed = module(x, Flow(segments_BT=torch.tensor([[0] * 4 + [1] * 5] * 2)))
    for part in (slice(0, 4), slice(4, 9)):
        torch.testing.assert_close(packed[:, part], module(x[:, part], Flow()), rtol=1e-10, atol=1e-12)
