"""A condition bends a mixer as published, changes nothing at first, and reads a stage where it is told to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONTEXT, Whole, built, document, inputs, moved, organism, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.dsl.plan import BlockPlan

ATTENTION = {"kind": "attention", "heads": 2}
TOKENS_BT = torch.randint(256, (2, CONTEXT), generator=torch.Generator().manual_seed(3))
"""(2, T) int64."""


def conditioned(**settings: Any) -> Whole:
    """A bent attention in float64, its weights drawn."""
    plan = resolve(document([stage("s", {"conditioned": ATTENTION, **settings}, ffn={"kind": "none"})]).organism)
    return Whole(built(_mixer(plan.stages[0])))


def _mixer(plan: BlockPlan) -> BlockPlan:
    return next(block for _, block in plan.named_blocks("") if block.begins_as)


def mean_so_far(x_BTD: Tensor, size: int) -> Tensor:
    """The mean over the tokens of each one's segment so far, token by token."""
    rows = [x_BTD[:, t - t % size : t + 1].mean(1) for t in range(x_BTD.shape[1])]
    return torch.stack(rows, 1)


@pytest.mark.parametrize("segment", [None, 5])
@pytest.mark.parametrize("by", ["film", "add", "scale", "lora"])
def test_what_it_computes(by: str, segment: int | None) -> None:
    """FiLM (Perez et al., eq. 1), its two halves, and U diag(G h) V, around an attention of the same weights."""
    whole, x = conditioned(by=by, at=["input", "output"], rank=3, **({"segment": segment} if segment else {})), inputs()
    own = dict(whole.named_parameters())
    h = F.silu(mean_so_far(x, segment or CONTEXT) @ own["inner"].T + own["inner_bias"])

    def bent(place: str, y: Tensor) -> Tensor:
        of = lambda part: own[f"{place}_{part}"].T  # noqa: E731
        if by == "lora":
            return y + ((h @ of("gate")) * (y @ of("down"))) @ of("up")
        scale = 1 + h @ of("scale") if by in ("film", "scale") else 1.0
        return y * scale + (h @ of("shift") if by in ("film", "add") else 0.0)

    main = whole.block.child("main")
    expected = bent("output", main(bent("input", x), Flow()))
    torch.testing.assert_close(whole(x), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("by", ["film", "add", "scale", "lora"])
def test_it_changes_nothing_at_first(by: str) -> None:
    """A new condition leaves the mixer as it is, to the last bit."""
    bare = build(resolve(document([stage("s", ATTENTION)]).organism), 0)
    mix = {"conditioned": ATTENTION, "by": by, "at": ["input", "q", "o", "output"]}
    bent = build(resolve(document([stage("s", mix)]).organism), 0)
    known = dict(bare.named_parameters())
    for path, parameter in bent.named_parameters():
        if path.replace(".main.", ".") in known:
            parameter.data.copy_(known[path.replace(".main.", ".")])
    assert (bent(TOKENS_BT) == bare(TOKENS_BT)).all()


@pytest.mark.parametrize("segment", [None, 5])
def test_documents_do_not_meet(segment: int | None) -> None:
    """Packed documents have means of their own, and segments that begin where they do."""
    whole, x = conditioned(at=["output"], **({"segment": segment} if segment else {})), inputs()
    segments_BT = (torch.arange(CONTEXT) >= 9).long().expand(2, -1)
    packed = whole.block(x, Flow(segments_BT=segments_BT))
    torch.testing.assert_close(packed, torch.cat((whole(x[:, :9]), whole(x[:, 9:])), 1))


def test_a_stage_is_the_condition() -> None:
    """It is read by name, also by step; it counts as read, and must come before."""
    mix = {"conditioned": ATTENTION, "source": "a", "at": ["v"]}
    stages = [stage("a", ATTENTION), stage("b", mix, **{"from": "embedding"})]
    model = organism(stages)
    before, weights = model(TOKENS_BT), dict(model.named_parameters())
    torch.nn.init.normal_(weights["stages.b.0.mixer.v_scale"])
    after = model(TOKENS_BT)
    assert not torch.allclose(before, after)
    first, state = model.extend(TOKENS_BT[:, :5], model.initial_state())
    rest, _ = model.extend(TOKENS_BT[:, 5:], state)
    torch.testing.assert_close(torch.cat((first, rest), 1), after)
    with pytest.raises(AssertionError, match="EVO315"):
        document([stages[1]])


def test_maps_of_a_memory_are_bent_token_by_token() -> None:
    """A step within a chunk meets its own token's condition alone: what earlier ones taught is kept, not made again."""
    bent = {"conditioned": {"kind": "memory", "heads": 2, "chunk": 4}, "at": ["q", "k", "v"]}
    found = moved(organism([stage("s", bent)]))
    state, parts = found.initial_state(), []
    for piece in TOKENS_BT[:, :11].split([1, 1, 2, 6, 1], dim=1):
        logits, state = found.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(TOKENS_BT[:, :11]), rtol=1e-9, atol=1e-11)
