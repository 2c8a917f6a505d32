"""Short convolutions behind projections: shifts of papers, packed documents, and what cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import inputs, mixer, stage
from papers import ATTENTION, HEADS, by_heads, compare
from tapped_variants import TAPPED
from torch import Tensor

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


def before(x_BTC: Tensor) -> Tensor:
    """What the token before has, zeros at the first."""
    return F.pad(x_BTC[:, :-1], (0, 0, 1, 0))


def rms(x_BHTK: Tensor, gain_HK: Tensor) -> Tensor:
    """RMS norm of each head with gains of its own."""
    return F.rms_norm(x_BHTK, x_BHTK.shape[-1:], eps=1e-6) * gain_HK.unflatten(0, (HEADS, -1))[:, None]


def test_keys_and_values_shift_by_the_token():
    """FoX Pro (Lin et al. 2503.02130, appendix B): a_t = sigmoid(w x_t) by head, k_t = norm(a_t k'_{t-1} + (1 - a_t)
    k'_t), v_t the same without norm, a forget gate, and outputs normed by head and gated."""

    def shifted(w: Mapping[str, Tensor], x: Tensor, name: str) -> Tensor:
        raw, a = x @ w[name].T, (x @ w[f"{name}_shares"].T).sigmoid()
        return by_heads(before(raw)) * by_heads(a) + by_heads(raw) * (1.0 - by_heads(a))

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q = rms(by_heads(x @ w["q"].T), w["q_norm.gain"])
        k, v = rms(shifted(w, x, "k"), w["k_norm.gain"]), shifted(w, x, "v")
        f = F.logsigmoid(x @ w["forget"].T + w["forget_bias"]).cumsum(1).transpose(1, 2)
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + f[..., None] - f[..., None, :]
        seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        o = logits.masked_fill(~seen, float("-inf")).softmax(-1) @ v
        o = rms(o, w["inner_norm.gain"]).transpose(1, 2).flatten(-2)
        return (o * (x @ w["gate"].T).sigmoid()) @ w["o"].T

    norm = {"kind": "rms", "gain": "heads"}
    pro = {"forget": True, "gate": "channel", "qk_norm": norm, "inner_norm": norm}
    compare({**ATTENTION, **pro, "taps": {"by": "token", "size": 2, "on": ["k", "v"]}}, theirs, moved=0.3)


def test_tokens_share_out_more_than_two():
    """Shares are the softmax of the token's logits for each earlier one, its own being 0, and the sum is activated."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        v = x @ w["v"].T
        first, second = (x @ w["v_shares"].T).unflatten(-1, (2, HEADS)).unbind(2)
        shares = torch.stack((torch.zeros_like(first), first, second)).softmax(0)
        parts = (v, before(v), before(before(v)))
        v = sum(by_heads(part) * by_heads(share) for part, share in zip(parts, shares, strict=True))
        assert isinstance(v, Tensor)
        v = F.silu(v + w["v_taps_bias"].unflatten(0, (HEADS, -1))[:, None])
        q, k = by_heads(x @ w["q"].T), by_heads(x @ w["k"].T)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return o.transpose(1, 2).flatten(-2) @ w["o"].T

    taps = {"by": "token", "size": 3, "on": ["v"], "bias": True, "act": "silu"}
    compare({**ATTENTION, "taps": taps}, theirs, moved=0.3)


def test_heads_shift_keys_and_values():
    """KV shifting (Xu et al. 2411.19574, equation 7): a k_{t-1} + b k_t with two numbers a head; values alike."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        def kept(name: str) -> Tensor:
            raw, taps = x @ w[name].T, w[f"{name}_taps"]
            return by_heads(before(raw)) * taps[:, :1, None] + by_heads(raw) * taps[:, 1:, None]

        q = by_heads(x @ w["q"].T)
        o = F.scaled_dot_product_attention(q, kept("k"), kept("v"), is_causal=True)
        return o.transpose(1, 2).flatten(-2) @ w["o"].T

    compare({**ATTENTION, "taps": {"by": "head", "size": 2, "on": ["k", "v"]}}, theirs)
