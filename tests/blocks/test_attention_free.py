"""Attention without attention, against the paper's equations: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from block_variants import CONTEXT, block_of, plan, stage
from papers import compare
from torch import Tensor

from evo.blocks.spatial.keyed import keyed_means
from evo.compiler.check import check
from evo.dsl.document import from_data
from evo.dsl.plan import ZEROS

AFT: dict[str, Any] = {"kind": "spatial", "weigh": "softmax", "keys": True, "act": "identity", "gate_act": "sigmoid"}


def free(w: Mapping[str, Tensor], x: Tensor, biases: Tensor, heads: int = 1) -> Tensor:
    """sigmoid(Q_t) * sum over t' <= t of exp(K_t' + w_tt') V_t' / the sum of the exponentials (2105.14103, eqs. 2, 4),
    token by token. biases: w (heads, T, T)."""
    q, k, v = (x @ w[name].T for name in ("gate", "k", "v"))
    rows = []
    for t in range(x.shape[1]):
        by_channel = biases[:, t, : t + 1].repeat_interleave(k.shape[-1] // heads, dim=0).T
        terms = torch.exp(k[:, : t + 1] + by_channel)
        rows.append((terms * v[:, : t + 1]).sum(1) / terms.sum(1))
    return (torch.sigmoid(q) * torch.stack(rows, dim=1)) @ w["o"].T


def steps(tokens: int) -> Tensor:
    """t - t'."""
    return torch.arange(tokens)[:, None] - torch.arange(tokens)


def test_full():
    """AFT-full: a bias for every two places."""
    compare(AFT, lambda w, x: free(w, x, w["places"]), moved=0.4)


def test_full_of_two_vectors():
    """w_tt' = u_t v_t' (section 3.1)."""
    compare({**AFT, "rank": 3}, lambda w, x: free(w, x, w["places_to"] @ w["places_from"].mT), moved=0.4)


def test_simple():
    """AFT-simple: no biases."""
    compare({**AFT, "by": "nothing"}, lambda w, x: free(w, x, torch.zeros(1, CONTEXT, CONTEXT)), moved=0.4)


def test_local():
    """AFT-local: w_tt' where |t - t'| < s, and 0 elsewhere, which is still seen (eq. 3)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        away = steps(x.shape[1])
        band = torch.stack([w["places"][0, t, away[t].clamp(0, 4)] for t in range(x.shape[1])])
        return free(w, x, torch.where(away < 5, band, 0.0)[None])

    compare({**AFT, "window": 5}, theirs, moved=0.4)


def test_conv():
    """AFT-conv: biases by distance, of parts of the channels (section 3.2), made causal."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        away = steps(x.shape[1])
        return free(w, x, torch.where(away < 4, w["places"][:, away.clamp(0, 3)], 0.0), heads=4)

    compare({**AFT, "heads": 4, "by": "distance", "window": 4}, theirs, moved=0.4)


def test_conv_of_normed_biases():
    """w_i = gain_i (w_i - mean(w_i)) / std(w_i) + bias_i for the window of each head, which starts as AFT-simple."""
    conv = {**AFT, "heads": 4, "by": "distance", "window": 4, "normed": True}

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        own = w["places"]
        std = (own.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        own = w["place_gain"][:, None] * (own - own.mean(-1, keepdim=True)) / std + w["place_shift"][:, None]
        away = steps(x.shape[1])
        return free(w, x, torch.where(away < 4, own[:, away.clamp(0, 3)], 0.0), heads=4)

    compare(conv, theirs, moved=0.4)
    weights = block_of(plan([stage("s", conv)]), "mixer").weights
    assert {w.name: w.init for w in weights}["place_gain"] == ZEROS


@pytest.mark.parametrize(("more", "shifts"), [({}, False), ({"window": 4}, True), ({"weigh": "plain"}, True)])
def test_normed_weights_are_shifted_where_that_says_something(more: dict[str, Any], shifts: bool):
    """A softmax takes away what all places have; a single weight is its own mean (EVO308)."""
    conv = {**AFT, "keys": False, "by": "distance", "normed": True, **more}
    found = plan([stage("s", conv)])
    assert ("place_shift" in {w.name for w in block_of(found, "mixer").weights}) == shifts
    one = from_data({"evo": 1, "organism": {"width": 16, "stages": [stage("s", {**conv, "window": 1})]}})
    assert "EVO308" in {diagnostic.code for diagnostic in check(one)}


@pytest.mark.parametrize("size", [1, 16, 17, 40])
def test_large_keys_do_not_overflow(size: int):
    """In float32, however far exponents of near and far tokens are apart."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, size, size, generator=generator)
    logits = logits.masked_fill(steps(size) < 0, -torch.inf)
    k, v = (torch.randn(2, size, 6, generator=generator) for _ in range(2))
    k = 200.0 * k
    found = keyed_means(logits, k, v)
    exponents = logits.double().repeat_interleave(3, dim=1)[..., None] + k.double().transpose(1, 2)[:, :, None, :, None]
    wanted = (exponents.softmax(-2) * v.double().transpose(1, 2)[:, :, None, :, None]).sum(-2)[..., 0].transpose(1, 2)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)
