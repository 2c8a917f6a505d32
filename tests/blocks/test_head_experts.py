"""Heads that are experts: what is chosen is a plain attention, and what would tell heads apart is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import block_of, built, plan, stage

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.check import problems
from evo.dsl.document import from_data

ATTENTION = {"kind": "attention", "heads": 4, "kv_heads": 2, "head_dim": 6}
CHOSEN = {
    **ATTENTION,
    "heads": 8,
    "head_experts": {"count": 2, "top": 2, "router": {"choose": "hash", "score": "alike"}},
}


def block(mixer: dict[str, Any]) -> Block:
    """A mixer by itself, float64."""
    return built(block_of(plan([stage("s", mixer)]), "mixer"))


def test_each_expert_is_an_attention() -> None:
    """Where all tokens meet both experts, each in an order of its own, the block is the mean of two attentions with the
    same keys and values: in values, and in the gradients of the input and of every weight."""
    ours, theirs = block(CHOSEN), [block(ATTENTION) for _ in range(2)]
    own = dict(ours.named_parameters())
    with torch.no_grad():
        for index, one in enumerate(theirs):
            for name, parameter in one.named_parameters():
                parameter.copy_(own[name][index] if name in ("q", "o") else own[name])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 11, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    cotangent = torch.randn(2, 11, 16, generator=generator, dtype=torch.float64)
    tokens = torch.arange(22).view(2, 11)
    mine, wanted = ours(x, Flow({"tokens": tokens})), sum(one(y, Flow()) for one in theirs) / 2
    (mine * cotangent).sum().backward()
    (wanted * cotangent).sum().backward()
    torch.testing.assert_close(mine, wanted)
    torch.testing.assert_close(x.grad, y.grad)
    grads = [{name: parameter.grad for name, parameter in one.named_parameters()} for one in theirs]
    for name, parameter in own.items():
        both = torch.stack([grad for found in grads if (grad := found[name]) is not None])
        torch.testing.assert_close(parameter.grad, both if name in ("q", "o") else both.sum(0), msg=name)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"heads": 6}, "EVO301"),
        ({"gate": "head"}, "EVO308"),
        ({"low_rank": {"q": 4}}, "EVO308"),
        ({"qk_norm": {"kind": "rms", "gain": "heads"}}, "EVO308"),
        ({"position": {"kind": "alibi"}}, "EVO308"),
        ({"taps": {"on": ["q"]}}, "EVO308"),
        ({"head_experts": {"count": 2, "top": 2, "router": {"capacity": 1.0}}}, "EVO307"),
        ({"head_experts": {"count": 2, "top": 2, "router": {"choose": "each_expert"}}}, "EVO307"),
    ],
)
def test_what_cannot_be(change: dict[str, Any], code: str) -> None:
    """Parts that are not equal, what tells heads apart, and choices that depend on other tokens are faults."""
    organism = {"width": 16, "context": 16, "stages": [stage("s", {**CHOSEN, **change})]}
    found = problems(from_data({"evo": 1, "organism": organism}).document)
    assert [fault.code for fault in found if fault.severity == "error"] == [code]
