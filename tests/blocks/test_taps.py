"""Short convolutions behind projections: what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import inputs, mixer, stage
from tapped_variants import TAPPED

from evo.blocks.flow import Flow
from evo.compiler.check import problems
from evo.dsl.document import from_data

SEGMENTS = torch.tensor([[0] * 5 + [1] * 7 + [2] * 12, [4] * 1 + [9] * 2 + [3] * 21])


@pytest.mark.parametrize("name", TAPPED)
def test_packed_documents_do_not_meet(name: str) -> None:
    """What taps, second convolutions and late values make of a document is the same whatever stands before it."""
    block, x = mixer(name).block, inputs()
    together = block(x, Flow(segments_BT=SEGMENTS))
    for row, ids in enumerate(SEGMENTS):
        start = 0
        for size in torch.unique_consecutive(ids, return_counts=True)[1].tolist():
            alone = block(x[row : row + 1, start : start + size], Flow())
            torch.testing.assert_close(together[row : row + 1, start : start + size], alone, rtol=1e-9, atol=1e-11)
            start += size


PAIRED = {"on": ["q", "k"], "residual": "paired"}


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"taps": {"residual": "paired"}}, "taps.residual", "queries and keys, which both have taps"),
        ({"taps": {"residual": "paired", "on": ["q"]}}, "taps.residual", "queries and keys, which both have taps"),
        ({"taps": {"on": ["v"]}, "values": "keys"}, "taps.on.0", "no projection 'v' here"),
        ({"values": "halves", "kv_heads": 1, "value_dim": 3}, "values", "3 channels have no halves"),
        ({"taps": PAIRED, "head_experts": {"count": 4}}, "head_experts", "tells heads apart"),
        ({"taps": PAIRED, "kv_from": "earlier"}, "taps", "no past that taps could reach"),
    ],
)
def test_what_cannot_be(change: dict[str, Any], path: str, message: str) -> None:
    """Means without queries or keys, taps of no projection, and halves of an odd number of channels are EVO308."""
    body = {"width": 16, "context": 16, "stages": [stage("s", {"kind": "attention", "heads": 4, **change})]}
    found = [fault for fault in problems(from_data({"evo": 1, "organism": body}).document) if fault.code == "EVO308"]
    assert len(found) == 1
    assert ".".join(map(str, found[0].path)).endswith(path)
    assert message in found[0].message
