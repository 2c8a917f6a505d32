"""Mixtures of depths: picked tokens pass alone, training picks the best, scores pick by the token itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, document, moved, organism, plan, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.depths.module import Depths
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
CONVOLUTION = {"kind": "convolution"}
BODY = stage("body", [ATTENTION, CONVOLUTION], repeat=2, ffn={"kind": "experts", "router": {"choose": "hash"}})
SEED = torch.tensor(0)


def model(**depths: Any) -> Organism:
    """A stage, a mixture of depths and another stage in float64, with every weight moved."""
    middle = {"name": "deep", "kind": "depths", "of": BODY, "share": 0.4, **depths}
    return moved(organism([stage("a", CONVOLUTION), middle, stage("b", ATTENTION)]))


def part(found: Organism) -> Depths:
    deep = found.stages["deep"]
    assert isinstance(deep, Depths)
    return deep


def flow_of(x: Tensor, **settings: Any) -> Flow:
    return Flow(signals={"tokens": (x.detach().sum(-1) * 1000).long() % 256}, **settings)


def by_hand(deep: Depths, x: Tensor, picked_BT: Tensor) -> Tensor:
    """The picked tokens of each row, alone."""
    y = x.clone()
    for row, picked_T in enumerate(picked_BT):
        at = picked_T.nonzero().flatten()
        if len(at):
            some = x[row : row + 1, at]
            change = deep.of[0](some, flow_of(some))[0] - some[0]
            y[row, at] = x[row, at] + (x[row, at] @ deep.router[0])[:, None] * change
    return y


def inputs() -> Tensor:
    return torch.randn(3, 15, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_the_best_pass_in_training_and_the_positive_elsewhere() -> None:
    """Both forms compute the formula, and the loss is the cross-entropy that makes the one like the other."""
    deep, x = part(model(pick_loss=0.5)), inputs()
    weight_BT = x @ deep.router[0]
    best_BT = torch.zeros_like(weight_BT).scatter(1, weight_BT.topk(6, dim=1).indices, 1.0).bool()
    flow = flow_of(x, seed=SEED)
    torch.testing.assert_close(deep.run({"x": [x]}, flow).value(), by_hand(deep, x, best_BT))
    expected = F.binary_cross_entropy_with_logits(weight_BT, best_BT.double())
    torch.testing.assert_close(flow.losses["pick"], 0.5 * expected)
    scored, told = deep.run({"x": [x]}, flow_of(x, figures={})).value(), flow_of(x, figures={})
    torch.testing.assert_close(scored, by_hand(deep, x, weight_BT > 0))
    deep.run({"x": [x]}, told)
    assert told.figures is not None
    assert float(told.figures["picked_share"][0]) == pytest.approx(float((weight_BT > 0).double().mean()))


def test_scores_see_nothing_ahead_and_training_does() -> None:
    """A later token changes who is picked before it in training alone; decoding equals the scored form."""
    whole = model()
    assert find_leak(whole) is None
    rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split([5, 1, 6], dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows))
    deep, x = part(whole), inputs()
    changed = x.clone()
    changed[:, -3:] += 3.0 * deep.router[0]
    early = slice(0, 12)
    one, two = (deep.run({"x": [y]}, flow_of(y, seed=SEED)).value()[:, early] for y in (x, changed))
    assert (one - two).abs().max() > 1e-3
    one, two = (deep.run({"x": [y]}, flow_of(y)).value()[:, early] for y in (x, changed))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_priors_of_what_stands_inside_are_those_that_were_asked_for() -> None:
    """A loop in it that starts from noise decodes from the same draws as the whole pass has, whichever these are."""
    loop = {"name": "loop", "kind": "loop", "of": stage("body", ATTENTION), "start": "random"}
    whole = model(of=loop)
    rows = torch.randint(256, (2, 8), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split(1, dim=1):
        logits, state = whole.extend(piece, state, sample=3)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows, Flow(sample=3)), rtol=1e-9, atol=1e-11)


def test_gradients_reach_every_weight() -> None:
    """The router learns from the task and from the loss; the stage inside from the picked tokens."""
    whole = model()
    rows = torch.randint(256, (4, CONTEXT), generator=torch.Generator().manual_seed(0))
    whole.loss(rows, rows).backward()
    assert [path for path, p in whole.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_a_stage_that_few_pass_costs_little() -> None:
    """A quarter of the tokens over a quarter of the length: less than a quarter of the FLOPs, the same parameters."""
    body = stage("body", ATTENTION)
    dense, deep = (
        plan([{**body, "name": "deep"}]),
        plan([{"name": "deep", "kind": "depths", "of": body, "share": 0.25}]),
    )
    assert deep.parameters == dense.parameters + 16
    assert deep.stages[0].children[0][1].flops < 0.25 * dense.stages[0].flops
    assert deep.cache_per_token == dense.cache_per_token / 4


def test_what_cannot_be_passed_by_few_is_refused() -> None:
    """A second source, shared keys, and a look ahead."""
    for bad in (
        {"from": "embedding"},
        {"mix": [{**ATTENTION, "kv_to": "n"}]},
        {"mix": [{**ATTENTION, "causal": False}]},
    ):
        with pytest.raises(AssertionError, match="EVO353"):
            document(
                [stage("a", CONVOLUTION), {"name": "deep", "kind": "depths", "of": {**stage("body", ATTENTION), **bad}}]
            )


RULE = {"patcher": {"kind": "space"}, "share": 0.34}
WORDS = "A few, words 7 and  more -- in a row"


def words() -> Tensor:
    return torch.tensor([list(WORDS.encode()), list(reversed(WORDS.encode()))])


def ruled_BT(tokens_BT: Tensor) -> Tensor:
    """The first token, and the first of space-like bytes in a row while a share of the tokens so far leaves room."""
    picked = torch.zeros(tokens_BT.shape, dtype=torch.bool)
    for row, tokens_T in enumerate(tokens_BT.tolist()):
        passed, was_space = 0, False
        for t, byte in enumerate(tokens_T):
            is_space = not chr(byte).isalnum()
            wanted = t == 0 or (is_space and not was_space)
            if wanted and passed < 1 + int(RULE["share"] * t):
                picked[row, t], passed = True, passed + 1
            was_space = is_space
    return picked


@pytest.mark.parametrize("seed", [None, torch.tensor(0)])
def test_a_rule_picks_tokens_alike_everywhere(seed: Tensor | None) -> None:
    """SpaceByte (Slagle 2404.14408, section 3): global blocks run on picked tokens alone, whose vectors are replaced by
    what these give, in training as where it is scored."""
    whole = model(of=stage("body", [ATTENTION, CONVOLUTION], repeat=2), **RULE)
    deep, tokens = part(whole), words()
    x = torch.randn(*tokens.shape, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    picked, expected = ruled_BT(tokens), x.clone()
    assert 4 < int(picked[0].sum()) < 12
    for row, picked_T in enumerate(picked):
        at = picked_T.nonzero().flatten()
        expected[row, at] = deep.of[0](x[row : row + 1, at], Flow())[0]
    found = deep(x, Flow(signals={"tokens": tokens}, seed=seed))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    fixed = deep(x, Flow(signals={"tokens": tokens}, seed=seed, has_fixed_shapes=True))
    torch.testing.assert_close(fixed, expected, rtol=1e-9, atol=1e-11)
    assert "router" not in dict(deep.named_parameters())


def test_a_rule_decodes_as_it_reads() -> None:
    """Step by step, and in pieces."""
    whole, tokens = model(of=stage("body", [ATTENTION, CONVOLUTION], repeat=2), **RULE), words()
    state, parts = OrganismState(), []
    for piece in tokens.split([1, 2, 5, 1, 9, 18], dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(tokens), rtol=1e-9, atol=1e-11)


def test_what_a_rule_cannot_pick_for() -> None:
    """Experts that are balanced would count the tokens that fill rows up; packed documents would meet."""
    balanced = stage("body", CONVOLUTION, ffn={"kind": "experts"})
    with pytest.raises(AssertionError, match="EVO353"):
        document([{"name": "deep", "kind": "depths", "of": balanced, **RULE}])
    deep, tokens = part(model(of=stage("body", CONVOLUTION), **RULE)), words()
    with pytest.raises(ValueError, match="packed documents"):
        deep(torch.zeros(*tokens.shape, 16, dtype=torch.float64), Flow(segments_BT=torch.zeros_like(tokens)))
