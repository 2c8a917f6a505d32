"""State spaces against sums with complex numbers written out, and against scipy's discretisation."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
import torch.nn.functional as F
from block_variants import Whole
from test_scan_oracles import TIME, WIDTH, Weights, compare, ours
from torch import Tensor

from evo.compiler.organism import OrganismState


def summed(kernel_TRN: Tensor, taken: Tensor) -> Tensor:
    """h_t = sum over s <= t of kernel_{t-s} taken_s, complex (B, T, R, N), by whole sums."""
    rows = []
    for t in range(taken.shape[1]):
        rows.append((kernel_TRN[: t + 1].flip(0) * taken[:, : t + 1]).sum(1))
    return torch.stack(rows, dim=1)


def powers(lam: Tensor) -> Tensor:
    """1, lambda, lambda², ..., (T, R, N)."""
    return lam ** torch.arange(TIME)[:, None, None]


def system(w: Weights, dense: bool) -> tuple[Tensor, Tensor]:
    """lambda and what inputs are multiplied by, complex (R, N)."""
    if "gain" in w:
        lam = torch.exp(torch.complex(-w["rate"].exp(), w["frequency"].exp()))
        return lam, w["gain"].exp() * (1 - lam.abs() ** 2).sqrt()
    a = torch.complex(-w["rate"].exp(), w["frequency"])
    step = w["step"].exp()[None] if dense else w["step"].exp()[:, None]
    lam = torch.exp(step * a)
    return lam, (lam - 1) / a


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("form", ["zoh", "lru"])
@pytest.mark.parametrize("dense", [False, True], ids=["by channel", "dense"])
def test_sums_of_powers(dense: bool, form: str, gate: bool):
    """S4D, S5 and the LRU as convolutions with the powers of lambda."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        lam, scale = system(w, dense)
        if dense:
            b, c = (torch.complex(*w["b"].chunk(2, 0)), torch.complex(*w["c"].chunk(2, 1)))
            h = summed(powers(lam), scale * (x.to(b.dtype) @ b.T)[:, :, None])[:, :, 0]
            read = (h @ c.T).real
        else:
            h = summed(powers(lam), scale * x[..., None])
            read = (h * torch.view_as_complex(w["c"])).sum(-1).real
        y = F.gelu(read + w["skip"] * x)
        o = y @ w["o"].T
        return o * (y @ w["gate"].T).sigmoid() if gate else o

    compare(ours(0.5, kind="state_space", state=5, dense=dense, form=form, gate=gate), theirs)


def test_zero_order_hold_is_scipys():
    """What a channel's states do to its input is scipy's discretisation of the continuous system, simulated."""
    signal = pytest.importorskip("scipy.signal", reason="the oracle scipy is not installed")
    block = ours(0.5, kind="state_space", state=4, gate=False)
    w = {name: p.detach() for name, p in block.named_parameters()}
    x = torch.randn(1, TIME, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    channel, rows = 3, importlib.import_module("numpy")
    a = torch.complex(-w["rate"][channel].exp(), w["frequency"][channel]).numpy()
    c = torch.view_as_complex(w["c"])[channel].numpy()
    continuous = (rows.diag(a), rows.ones((4, 1)), c[None], rows.zeros((1, 1)))
    found = signal.cont2discrete(continuous, float(w["step"][channel].exp()), method="zoh")
    h, read = rows.zeros(4, dtype=complex), []
    for value in x[0, :, channel].numpy():
        h = found[0] @ h + found[1][:, 0] * value
        read.append(float((found[2] @ h).real[0]))
    with torch.no_grad():
        weights = dict(block.named_parameters())
        weights["o"].zero_()
        weights["o"][0, channel] = 1.0
        weights["skip"][channel] = 0.7
    wanted = F.gelu(torch.tensor(read, dtype=torch.float64) + 0.7 * x[0, :, channel])
    torch.testing.assert_close(Whole(block)(x)[0, :, 0].detach(), wanted, rtol=1e-9, atol=1e-9)


def test_angles_hold_far_from_the_start():
    """In float32, a state that decays slowly is the same after 20,000 tokens in one piece and in many."""
    block = ours(0.5, kind="state_space", state=3, form="lru").float()
    with torch.no_grad():
        weights = dict(block.named_parameters())
        weights["rate"].fill_(math.log(1e-4))
        weights["frequency"].fill_(math.log(2.0))
    x = torch.randn(1, 20_000, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, state, pieces = Whole(block)(x), OrganismState(), []
        for part in x.split(500, dim=1):
            y, state = Whole(block).extend(part, state)
            pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))
