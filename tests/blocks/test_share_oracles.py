"""Delta rules that take out another share than they write, against fla's naive functions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_recurrence_oracles import KEY, VALUE, Weights, compare, heads, large, our, root_mean_square
from torch import Tensor

from oracles import naive

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def unit(x: Tensor) -> Tensor:
    """x / |x|, as fla has it."""
    return x / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()


def log_decay(x: Tensor, w: Weights) -> Tensor:
    """That of gated DeltaNet."""
    return -w["decay_rate"].exp() * F.softplus(x @ w["decay"].T + w["decay_bias"])


def test_comba():
    """Comba: keys read with a smaller share than they write, queries less a multiple of the key."""
    comba = naive("fla.ops.comba.naive:naive_recurrent_comba")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = F.silu(x @ w["q"].T), F.silu(x @ w["k"].T), F.silu(x @ w["v"].T)
        q, k = heads(q, KEY), heads(k, KEY)
        q, k = unit(q - w["correction"][:, None] * k), unit(k)
        p = k * w["erase_rate"].sigmoid()[:, None]
        o, _ = comba(q, k, heads(v, VALUE), p, torch.sigmoid(x @ w["beta"].T), log_decay(x, w))
        return (root_mean_square(o, w["out_norm"]).flatten(2) * torch.sigmoid(x @ w["gate"].T)) @ w["o"].T

    settings = {"conv": 0, "act": "silu", "gate": "sigmoid", "erase": "head", "correct": True}
    compare(large(our(**settings), 0.5), theirs)


def test_gated_delta_net_2():
    """Gated DeltaNet-2: what is erased has a share of each key channel, what is written of each value channel."""
    gdn2 = naive("fla.ops.gdn2.naive:naive_recurrent_gdn2")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = F.silu(x @ w["q"].T), F.silu(x @ w["k"].T), F.silu(x @ w["v"].T)
        erase, write = torch.sigmoid(x @ w["erase_gate"].T), torch.sigmoid(x @ w["write_gate"].T)
        logits = heads(x @ w["decay_down"].T @ w["decay_up"].T + w["decay_bias"], KEY)
        decay = -w["decay_rate"].exp()[:, None] * F.softplus(logits)
        q, k = unit(heads(q, KEY)), unit(heads(k, KEY))
        o, _ = gdn2(q, k, heads(v, VALUE), decay, heads(erase, KEY), heads(write, VALUE))
        return (root_mean_square(o, w["out_norm"]).flatten(2) * torch.sigmoid(x @ w["gate"].T)) @ w["o"].T

    settings = {
        "conv": 0, "act": "silu", "gate": "sigmoid", "erase": "channel", "write": "channel",
        "decay": {"kind": "channel", "form": "softplus"},
    }  # fmt: skip
    compare(large(our(**settings), 0.5), theirs)


@pytest.mark.parametrize("decay", ["none", "head", "token"])
def test_erasing_by_channel_under_every_decay(decay: str):
    """The removal reads the decayed state, whatever decays it."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (heads(x @ w[name].T, size) for name, size in (("q", KEY), ("k", KEY), ("v", VALUE)))
        q, k = unit(q) * KEY**-0.5, unit(k)
        erase, share = heads(2 * torch.sigmoid(x @ w["erase_gate"].T), KEY), torch.sigmoid(x @ w["beta"].T)
        fixed = torch.log1p(-(2.0 ** (-5 - torch.arange(3.0)))).expand(*x.shape[:2], 3)
        kept = {"none": lambda: 0 * fixed, "head": lambda: fixed, "token": lambda: log_decay(x, w)}[decay]().exp()
        state, found = x.new_zeros(x.shape[0], 3, KEY, VALUE), []
        for t in range(x.shape[1]):
            state = state * kept[:, t, :, None, None]
            read = torch.einsum("bhk,bhkv->bhv", erase[:, t] * k[:, t], state)
            state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], share[:, t, :, None] * v[:, t] - read)
            found.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
        return root_mean_square(torch.stack(found, 1), w["out_norm"]).flatten(2) @ w["o"].T

    compare(large(our(conv=0, gate="none", erase="channel", decay=decay, beta_range=2.0), 0.5), theirs)
