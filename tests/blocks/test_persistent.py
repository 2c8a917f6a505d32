"""Keys and values of no token: what attention computes with them, written out; where they cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, inputs, plan, stage

from evo.blocks.flow import Flow
from evo.compiler.check import check
from evo.dsl.document import from_data


def test_they_stand_before_the_keys_of_tokens_whatever_the_window() -> None:
    """A softmax over the window and all of them, head by head."""
    mix = {"kind": "attention", "heads": 2, "position": {"kind": "none"}, "persistent": 3}
    whole = plan([stage("s", {**mix, "stencil": {"kind": "window", "size": 4}})])
    module, x = built(block_of(whole, "mixer")), inputs(9, batch=1)
    named = dict(module.named_parameters())
    q, k, v = (F.linear(x, named[name])[0].unflatten(-1, (2, 8)) for name in ("q", "k", "v"))
    own_k, own_v = (named[f"persistent_{name}"].unflatten(-1, (2, 8)) for name in ("k", "v"))
    rows = []
    for t in range(9):
        near = slice(max(0, t - 3), t + 1)
        keys, values = torch.cat((own_k, k[near])), torch.cat((own_v, v[near]))
        weights = torch.einsum("hk,shk->hs", q[t], keys).mul(8**-0.5).softmax(-1)
        rows.append(torch.einsum("hs,shv->hv", weights, values).flatten())
    torch.testing.assert_close(module(x, Flow())[0], F.linear(torch.stack(rows), named["o"]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("more", [{"position": {"kind": "alibi"}}, {"select": {"kind": "tokens", "top": 4}}])
def test_they_have_no_place(more: dict[str, Any]) -> None:
    """EVO308 beside what asks for one."""
    mix = {"kind": "attention", "heads": 2, "persistent": 3, **more}
    data: Any = {"evo": 1, "organism": {"width": 32, "context": 32, "stages": [stage("s", mix)]}}
    assert [diagnostic.code for diagnostic in check(from_data(data))] == ["EVO308"]
