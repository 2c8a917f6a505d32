"""Blocks that read stages beside the stream: what they compute written out, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import inputs, organism, stage

from evo.blocks.flow import Flow
from evo.compiler.check import problems
from evo.dsl.document import from_data
from evo.training.causality import find_leak

MAP = {"kind": "linear"}


def layers(block: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Two stages, the second with a block that reads the first one's output."""
    first = stage("a", {"kind": "convolution"}, ffn={"kind": "none"})
    return [first, {"name": "b", "from": "embedding", "layers": {"sublayers": [{"block": block, **more}]}}]


def test_vectors_lie_side_by_side() -> None:
    """W [x, a, e], through an RMS norm of all three."""
    block = {"joined": MAP, "to": ["a", "embedding"], "norm": {"kind": "rms", "eps": 0.1}}
    model = organism(layers(block, skip=0.0))
    x, a, e = inputs(5, seed=0), inputs(5, seed=1), inputs(5, seed=2)
    y = model.stages["b"].run({"x": [x]}, Flow({"a": a, "embedding": e})).value()
    wide = torch.cat((x, a, e), dim=-1)
    weight = dict(model.named_parameters())["stages.b.0.0.main.o"]
    assert weight.shape == (16, 48)
    torch.testing.assert_close(y, wide * (wide.square().mean(-1, keepdim=True) + 0.1).rsqrt() @ weight.T)
    assert find_leak(model) is None


def test_vectors_are_added() -> None:
    """x + W (x + a): what is added for the block alone is not in the stream."""
    model = organism(layers({"joined": MAP, "to": "a", "by": "sum"}))
    x, a = inputs(5, seed=0), inputs(5, seed=1)
    y = model.stages["b"].run({"x": [x]}, Flow({"a": a})).value()
    torch.testing.assert_close(y, x + (x + a) @ dict(model.named_parameters())["stages.b.0.0.main.o"].T)


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ({"joined": {"kind": "convolution"}, "to": "a"}, "EVO306"),
        ({"joined": {"kind": "none"}, "to": "a", "by": "sum"}, "EVO306"),
        ({"joined": MAP, "to": ["a", "a"]}, "EVO310"),
        ({"joined": MAP, "to": ["a", "b"]}, "EVO315"),
    ],
)
def test_what_cannot_be(block: dict[str, Any], code: str) -> None:
    """A block that gives as much as it reads, none at all, a stage twice, and one that does not come before."""
    body: dict[str, Any] = {"width": 16, "context": 16, "stages": layers(block)}
    found = problems(from_data({"evo": 1, "organism": body}).document)
    assert [fault.code for fault in found if fault.severity == "error"] == [code]


def test_keys_to_which_a_stage_adds_are_as_wide_as_the_stream() -> None:
    """An attention that reads two vectors side by side makes keys of more channels than that; one of a sum does not."""
    attention = {"kind": "attention", "heads": 2}
    for by, codes in (("concatenation", ["EVO351"]), ("sum", [])):
        made = [stage("a", attention), stage("b", {"joined": attention, "by": by}, kv_add="a")]
        body: dict[str, Any] = {"width": 16, "context": 16, "stages": made}
        found = problems(from_data({"evo": 1, "organism": body}).document)
        assert [fault.code for fault in found] == codes
