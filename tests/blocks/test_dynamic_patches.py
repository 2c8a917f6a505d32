"""Patches that follow the tokens: where they end, the formula token by token, causality, decoding, what is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, WIDTH, document, inputs, organism, plan, stage
from torch import Tensor

from evo.blocks.cross_attention.module import CrossAttention
from evo.blocks.dropout import Dropout
from evo.blocks.flow import Flow
from evo.blocks.stages.dynamic_patches.module import DynamicPatches, ends
from evo.blocks.stages.dynamic_patches.patchers.entropy import Entropy
from evo.blocks.stages.dynamic_patches.patchers.module import is_space_like
from evo.compiler.build import build
from evo.compiler.check import check
from evo.compiler.filled import filled
from evo.compiler.kernels import kernel_choices
from evo.compiler.organism import Organism, OrganismState
from evo.dsl.document import from_data
from evo.dsl.spec import TOKENS
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
CROSS = {"kind": "cross_attention", "source": "global", "heads": 4, "kv_heads": 2}
BODY = stage("body", [ATTENTION, {"kind": "convolution"}], repeat=2, ffn={"kind": "gated", "ratio": 1.0})
SMALL = {"kind": "entropy", "width": 8, "of": stage("bytes", ATTENTION), "threshold": 5.03}
PATCHERS = {"space": {"kind": "space"}, "entropy": SMALL, "every": {"kind": "every"}}
RMS = {"kind": "rms"}


def stages(**settings: Any) -> list[dict[str, Any]]:
    """A local encoder, a model over patches, a local decoder that reads both."""
    above = {"name": "global", "kind": "dynamic_patches", "of": BODY, "size": 2, "heads": 4, "kv_heads": 2, **settings}
    sublayers = [{"block": CROSS, "norm": {"in": RMS}}, {"block": ATTENTION, "norm": {"in": RMS}}]
    decoder = {"name": "decoder", "from": "encoder", "layers": {"sublayers": sublayers}}
    return [stage("encoder", ATTENTION), above, decoder]


def model(**settings: Any) -> Organism:
    """Such an organism in float64, every weight moved far enough for entropies on both sides of the threshold."""
    found = organism(stages(**settings)).double()
    with torch.no_grad():
        for index, parameter in enumerate(found.parameters()):
            generator = torch.Generator().manual_seed(index)
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return found


def part(found: Organism) -> DynamicPatches:
    above = found.stages["global"]
    assert isinstance(above, DynamicPatches)
    return above


def text(batch: int = 2, length: int = CONTEXT) -> Tensor:
    """Letters and spaces, words of any length."""
    rows = torch.randint(97, 123, (batch, length), generator=torch.Generator().manual_seed(0))
    spaces = torch.rand(batch, length, generator=torch.Generator().manual_seed(1)) < 0.3
    return rows.masked_fill(spaces, 32)


def plain_ends(wanted: list[bool], size: int) -> list[bool]:
    """Where patches end, one token after another."""
    found: list[bool] = []
    for t, is_wanted in enumerate(wanted):
        found.append((is_wanted or t == 0) and sum(found) < 1 + t // size)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_patches_end_where_wanted_and_there_is_room(size: int, share: float) -> None:
    """As a loop over tokens finds them, at once and in pieces."""
    wanted = torch.rand(5, 40, generator=torch.Generator().manual_seed(size)) < share
    right = torch.tensor([plain_ends(row, size) for row in wanted.tolist()])
    ended = torch.zeros(5, dtype=torch.int64)
    assert torch.equal(ends(wanted, size, ended, 0), right)
    pieces, start = [], 0
    for piece in wanted.split([1, 3, 1, 9, 26], dim=1):
        pieces.append(ends(piece, size, ended, start))
        ended, start = ended + pieces[-1].sum(1), start + piece.shape[1]
    assert torch.equal(torch.cat(pieces, 1), right)


def test_spaces_end_patches() -> None:
    """Behind the first of bytes that are no letters, digits or insides of characters."""
    said = "It's 42  né—x\n\n1"
    found = is_space_like(torch.tensor([list(said.encode())]))[0].tolist()
    marks = [index for index, is_space in enumerate(found) if is_space]
    assert [said.encode()[index] for index in marks] == [0x27, 0x20, 0x20, 0x20, 0xC3, 0xE2, 0x0A, 0x0A]


def given(above: DynamicPatches, x: Tensor, is_end: Tensor) -> Tensor:
    """The vectors that the tokens of one row get, (T, J, D), by the formula: patch by patch, token by token."""
    count, heads, groups = above.plan.vectors, above.plan.heads, above.plan.kv_heads
    patches: list[Tensor] = []
    found: list[Tensor] = []
    start = 0
    for t in range(len(x)):
        if is_end[t]:
            own = x[start : t + 1]
            slots = (above.pooled @ own.amax(0)).view(count, -1)
            keys = above.kv_norm(own, Flow())
            q = (above.q_norm(slots, Flow()) @ above.q.T).view(count, heads, -1)
            k, v = ((keys @ w.T).view(len(own), groups, -1) for w in (above.k, above.v))
            seen = F.scaled_dot_product_attention(*(y.transpose(0, 1)[None] for y in (q, k, v)), enable_gqa=True)[
                0
            ].transpose(0, 1)
            patch = (above.plan.skip * slots + seen.flatten(1) @ above.o.T).flatten()
            patches.append(patch if above.down is None else above.down @ patch)
            start = t + 1
        h = above.of[0](torch.stack(patches)[None], Flow())[0, -1]
        found.append((above.up @ h).view(count, -1))
    return torch.stack(found)


@pytest.mark.parametrize("width", [None, 20])
@pytest.mark.parametrize("patcher", PATCHERS)
def test_a_token_gets_what_the_latest_patch_says(patcher: str, width: int | None) -> None:
    """Vectors of every token, and their mean, are the formula's, rows of different patches beside each other."""
    above = part(model(patcher=PATCHERS[patcher], slots=3, skip=1.5, **({"width": width} if width else {})))
    rows, x = text(), inputs()
    flow = Flow(signals={TOKENS: rows})
    y = above.run({"x": [x]}, flow).value()
    wanted = above.patcher(x, Flow(signals={TOKENS: rows}))
    is_end = torch.tensor([plain_ends(row, 2) for row in wanted.tolist()])
    assert patcher == "every" or len(set(is_end.sum(1).tolist())) == 2
    for row in range(2):
        right = given(above, x[row], is_end[row])
        torch.testing.assert_close(flow.signals["vectors of global"][row], right, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(y[row], right.mean(1), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("patcher", PATCHERS)
@pytest.mark.parametrize("lengths", [(24,), (1,) * 24, (3, 1, 4, 9, 7), (23, 1)])
def test_decoding_goes_on_across_bounds(patcher: str, lengths: tuple[int, ...]) -> None:
    """In any pieces the logits are those of the whole, rows with patches of their own."""
    whole, rows = model(patcher=PATCHERS[patcher]), text(3)
    state, parts = OrganismState(), []
    for piece in rows.split(list(lengths), dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows))


@pytest.mark.parametrize("patcher", PATCHERS)
def test_nothing_leaks_and_every_weight_learns(patcher: str) -> None:
    """To the token, where patches end too, and nothing but its own loss teaches the model of a patcher."""
    whole, rows = model(patcher=PATCHERS[patcher]), text(4)
    assert find_leak(whole) is None
    losses = whole.losses(rows, rows)
    losses.total.backward()
    assert [path for path, p in whole.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    whole.zero_grad()
    whole.losses(rows, rows).task.backward()
    taught = [path for path, p in whole.named_parameters() if p.grad is not None and bool(p.grad.any())]
    assert not any("patcher" in path for path in taught)


def test_the_model_of_a_patcher_learns_the_next_token() -> None:
    """Its loss is the mean cross-entropy of its logits, weighed."""
    whole, rows = model(patcher={**SMALL, "loss": 0.5}), text()
    patcher = part(whole).patcher
    assert isinstance(patcher, Entropy)
    logits = patcher.logits(rows, Flow())
    right = 0.5 * F.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
    torch.testing.assert_close(whole.losses(rows, rows).auxiliary["patcher"], right)


def test_a_model_that_stays_is_not_trained() -> None:
    """Without a loss its weights are no weights to train, adapters stand beside none, and no gradient is counted."""
    trained, still = (plan(stages(patcher={**SMALL, "loss": loss})) for loss in (1.0, 0.0))
    mine = {path for path in still.weights if ".patcher." in path}
    assert still.weights.keys() - still.trained.keys() == mine
    assert trained.trained.keys() == trained.weights.keys()
    small = next(block for path, block in still.named_blocks() if path.endswith(".patcher"))
    assert trained.training_flops_per_token - still.training_flops_per_token == pytest.approx(2 * small.flops)
    assert still.losses == ()
    whole = build(still, 0)
    assert {path for path, p in whole.named_parameters() if not p.requires_grad} == mine
    adapted = plan(stages(patcher={**SMALL, "loss": 0.0}), adapters={"kind": "lora", "rank": 2})
    assert not any(".patcher." in path for path in adapted.trained)


def test_patches_end_alike_while_training_drops() -> None:
    """What training drops changes no entropy."""
    above, x = part(model(patcher=SMALL)), inputs()
    dropout = Dropout({"attention": 0.5, "residual": 0.5}, torch.tensor([3]))
    free, dropped = (above.patcher(x, Flow(signals={TOKENS: text()}, dropout=rates)) for rates in (None, dropout))
    assert torch.equal(free, dropped)


def test_shapes_may_be_fixed() -> None:
    """As many patches as there can be, in place of as many as there are, change nothing."""
    above, x = part(model(patcher=PATCHERS["space"])), inputs()
    free, fixed = (above(x, Flow(signals={TOKENS: text()}, has_fixed_shapes=is_fixed)) for is_fixed in (False, True))
    torch.testing.assert_close(free, fixed)


def test_members_of_a_population_run_at_once() -> None:
    """Under torch.func, where the host may not look at values, each computes what it does alone."""
    members = [model(patcher=SMALL), model(patcher=SMALL)]
    with torch.no_grad():
        for parameter in members[1].parameters():
            parameter.mul_(1.5)
    weights, buffers = torch.func.stack_module_state(members)
    rows = text()
    both = torch.func.vmap(lambda w: torch.func.functional_call(members[0], (w, buffers), (rows,)))(weights)
    torch.testing.assert_close(both, torch.stack([member(rows) for member in members]))


def test_a_patch_costs_once() -> None:
    """The stage inside costs a third of itself where patches have three tokens, and its own width."""
    above = {"name": "global", "kind": "dynamic_patches", "of": stage("body", ATTENTION), "size": 3, "width": 32}
    whole = plan([above])
    inner = dict(whole.stages[0].children)["of_body"]
    alone = plan([stage("global", ATTENTION)], width=32, context=CONTEXT // 3)
    assert inner.flops == pytest.approx(alone.stages[0].flops / 3)
    assert whole.stages[0].cost.flops < plan([{**above, "size": 1}]).stages[0].cost.flops


def test_cross_attention_is_attention_over_few_vectors() -> None:
    """Each token's heads see the vectors of its own patch, as torch computes it."""
    whole = model(slots=3)
    block = whole.stages["decoder"].child("0").child("0")
    assert isinstance(block, CrossAttention)
    (gain,) = block.kv_norm.parameters()
    x = inputs()
    c = torch.randn(2, CONTEXT, 3, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = block(x, Flow(signals={"vectors of global": c}))
    normed = F.rms_norm(c, (WIDTH,), gain, 1e-6)
    q = (x @ block.q.T).view(2 * CONTEXT, 1, 4, -1).transpose(1, 2)
    k, v = ((normed @ w.T).view(2 * CONTEXT, 3, 2, -1).transpose(1, 2) for w in (block.k, block.v))
    seen = F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).reshape(2, CONTEXT, -1)
    torch.testing.assert_close(y, seen @ block.o.T)


def test_one_vector_is_warned_of() -> None:
    """There is nothing to choose among, so a part of what the attention computes is for nothing."""
    organism = {"width": WIDTH, "context": CONTEXT, "stages": stages(slots=1)}
    loaded = from_data({"evo": 1, "organism": organism})
    (fault,) = check(loaded)
    assert (fault.code, fault.severity) == ("EVO354", "warning")
    assert (
        from_data(filled(loaded.document)).document == loaded.document
    )  # the stage that is named is read all the same


def refused(bad: list[dict[str, Any]], code: str, **settings: Any) -> None:
    with pytest.raises(AssertionError, match=code):
        document(bad, **settings)


def test_its_kernels_can_be_told() -> None:
    """What its vectors ask for, and its stage over as many patches as there may be."""
    choices = kernel_choices(plan(stages()), device="cuda", dtype="bfloat16", batch=2, tokens=CONTEXT)
    asking = {choice.layer for choice in choices if choice.family == "attention"}
    assert {"stages.global", "stages.global.of_body.0"} <= asking


def test_what_cannot_be_is_refused() -> None:
    """Patches as long as the context, other sources, shared keys, heads that do not divide, unknown vectors."""
    refused(stages(size=CONTEXT), "EVO354")
    refused(stages(of={**BODY, "from": "embedding"}), "EVO354")
    refused(stages(of=stage("b", {**ATTENTION, "kv_to": "n"})), "EVO354")
    refused(stages(of=stage("b", {**ATTENTION, "causal": False})), "EVO354")
    refused(stages(of=stage("b", {"route": [ATTENTION, {"kind": "convolution"}]})), "EVO354")  # patches that are none
    refused(stages(patcher={"kind": "space"}), "EVO354", vocab=300)
    refused(stages(patcher={**SMALL, "of": stage("b", ATTENTION, **{"from": "embedding"})}), "EVO354")
    refused(stages(patcher={**SMALL, "of": stage("b", {**ATTENTION, "kv_to": "n"})}), "EVO354")
    refused(stages(patcher={**SMALL, "of": stage("b", {**ATTENTION, "causal": False})}), "EVO354")
    refused(stages(patcher={**SMALL, "width": 9}), "EVO300")
    refused(stages(heads=3, kv_heads=None), "EVO300")
    refused(stages(kv_heads=3), "EVO301")
    encoder, _, decoder = stages()
    refused([encoder, decoder], "EVO354")
    refused([encoder, decoder, stages()[1]], "EVO354")
    segments = torch.zeros(2, CONTEXT, dtype=torch.int64)
    with pytest.raises(ValueError, match="packed"):
        part(model())(inputs(), Flow(signals={TOKENS: text()}, segments_BT=segments))
