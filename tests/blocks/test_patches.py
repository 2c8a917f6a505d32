"""Stages over patches: the formula token by token, causality to the token, decoding across bounds, what is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import CONTEXT, document, inputs, moved, organism, plan, stage

from evo.blocks.flow import Flow
from evo.blocks.stages.patches.module import Patches
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
CONVOLUTION = {"kind": "convolution"}
LOCAL = {**ATTENTION, "stencil": {"kind": "block", "size": 4}}
BODY = stage("body", [ATTENTION, CONVOLUTION], repeat=2, ffn={"kind": "gated", "ratio": 1.0})


def model(**patches: Any) -> Organism:
    """MEGABYTE, small, in float64, with every weight moved."""
    above = {"name": "global", "kind": "patches", "of": BODY, "size": 4, **patches}
    return moved(organism([above, stage("local", LOCAL, **{"from": ["embedding", "global"]})]))


def part(found: Organism) -> Patches:
    above = found.stages["global"]
    assert isinstance(above, Patches)
    return above


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 23, CONTEXT])
def test_a_token_gets_what_earlier_patches_say(length: int) -> None:
    """Every token's output is the formula's, whether the last patch is whole or not."""
    above, x = part(model(width=20)), inputs(length)
    y = above.run({"x": [x]}, Flow()).value()
    for t in range(length):
        k, j = divmod(t, 4)
        vectors = [above.first.expand(2, 1, -1)]
        vectors += [(x[:, 4 * i : 4 * i + 4].flatten(1) @ above.down.T)[:, None] for i in range(k)]
        h = above.of[0].run({"x": [torch.cat(vectors, 1)]}, Flow()).value()[:, -1]
        torch.testing.assert_close(y[:, t], (h @ above.up.T)[:, 16 * j : 16 * j + 16], rtol=1e-9, atol=1e-11)


def test_a_patch_sees_those_before_it_alone() -> None:
    """A changed token changes nothing in its own patch and all of the next."""
    above, x = part(model()), inputs()
    changed = x.clone()
    changed[:, 9] += 1.0
    one, two = (above.run({"x": [z]}, Flow()).value() for z in (x, changed))
    assert torch.equal(one[:, :12], two[:, :12])
    assert bool(((one - two)[:, 12:].abs().amax(-1) > 1e-6).all())


@pytest.mark.parametrize("lengths", [(24,), (1,) * 24, (3, 1, 4, 9, 7), (4, 4, 16), (23, 1)])
def test_decoding_goes_on_across_bounds(lengths: tuple[int, ...]) -> None:
    """In any pieces the logits are those of the whole."""
    whole = model()
    rows = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split(list(lengths), dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows))


def test_the_last_patch_of_a_context_is_read_by_nobody() -> None:
    """Decoding to the end of the context needs no more patches than the whole pass: filters are as long as these."""
    hyena = {"kind": "hyena", "hidden": 8}
    whole = model(of=stage("body", hyena), width=16)
    rows = torch.randint(256, (1, CONTEXT), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split([1, CONTEXT - 5, 4], dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows), rtol=1e-9, atol=1e-11)


def test_nothing_leaks_and_every_weight_learns() -> None:
    """To the token, and with local layers that see their own patch every earlier byte counts."""
    whole = model()
    assert find_leak(whole) is None
    x = inputs(batch=1).requires_grad_()
    whole.forward_embedded(x)[0, -1].sum().backward()
    assert x.grad is not None
    assert bool((x.grad.abs().amax(-1) > 0).all())
    rows = torch.randint(256, (4, CONTEXT), generator=torch.Generator().manual_seed(0))
    whole.zero_grad()
    whole.loss(rows, rows).backward()
    assert [path for path, p in whole.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_a_patch_costs_once() -> None:
    """The stage inside costs a quarter of itself over a quarter of the length, at its own width; so does its cache."""
    body = stage("global", ATTENTION)
    above = {"name": "global", "kind": "patches", "of": {**body, "name": "body"}, "size": 4, "width": 32}
    inner = plan([above]).stages[0].children[0][1]
    alone = plan([body], width=32, context=CONTEXT // 4)
    assert inner.flops == pytest.approx(alone.stages[0].flops / 4)
    assert inner.parameters == alone.stages[0].parameters
    assert plan([above]).cache_per_token == alone.cache_per_token / 4


def test_what_has_no_patches_is_refused() -> None:
    """A patch as long as the context, a second source, shared keys, and packed documents."""
    for bad in (
        {"size": CONTEXT},
        {"of": {**BODY, "from": "embedding"}},
        {"of": stage("b", {**ATTENTION, "kv_to": "n"})},
    ):
        with pytest.raises(AssertionError, match="EVO354"):
            document([{"name": "global", "kind": "patches", "of": BODY, "size": 4, **bad}])
    with pytest.raises(ValueError, match="packed"):
        part(model())(inputs(), Flow(segments_BT=torch.zeros(2, CONTEXT, dtype=torch.int64)))
