"""Writes by the trapezoidal rule against the recurrence of Mamba-3 (2603.15569), token by token, in complex numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from test_scan_oracles import Weights, compare, ours
from torch import Tensor

HEADS, GROUPS, STATE = 4, 2, 4


def normed(x: Tensor, gain: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * gain


def by_group(x: Tensor) -> Tensor:
    """(B, T, G N) for each head, (B, T, H, N)."""
    return x.unflatten(-1, (GROUPS, -1)).repeat_interleave(HEADS // GROUPS, dim=2)


def as_complex(x: Tensor) -> Tensor:
    """Channels i and N / 2 + i as one number."""
    return torch.complex(*x.chunk(2, dim=-1))


SETTINGS = {
    "update": "outer", "conv": 0, "feature": "identity", "normalizer": "none", "key_dim": STATE,
    "decay": {"kind": "token", "form": "product"}, "write": "trapezoid", "turns": True, "skip": True,
    "qk_norm": {"kind": "rms"}, "qk_bias": True, "key_heads": GROUPS,
}  # fmt: skip


def test_mamba3():
    """h_t = a_t h_{t-1} + (1 - l_t) d_t a_t B_{t-1} x_{t-1} + l_t d_t B_t x_t, a_t = exp(d_t (A_t + i theta_t)), with
    complex states read by the conjugate of C_t in place of turned queries and keys."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        C, B = by_group(x @ w["q"].T), by_group(x @ w["k"].T)
        C = as_complex(normed(C, w["q_norm.gain"]) + w["q_bias"]) * STATE**-0.5
        B = as_complex(normed(B, w["k_norm.gain"]) + w["k_bias"])
        values = (x @ w["v"].T).unflatten(-1, (HEADS, -1))
        step = F.softplus(x @ w["decay"].T + w["decay_bias"])
        A = -F.softplus(x @ w["decay_rates"].T)
        blend = (x @ w["blend"].T).sigmoid()
        a = torch.exp(step[..., None] * torch.complex(A[..., None] + 0 * B.real, -by_group(x @ w["turn"].T)))
        h = torch.zeros(x.shape[0], HEADS, STATE // 2, values.shape[-1], dtype=torch.complex128)
        last, found = torch.zeros_like(h), []
        for t in range(x.shape[1]):
            written = B[:, t, :, :, None] * values[:, t, :, None, :]
            share = (blend * step)[:, t, :, None, None]
            rest = ((1 - blend) * step)[:, t, :, None, None]
            h = a[:, t, :, :, None] * (h + rest * last) + share * written
            last = written
            found.append(torch.einsum("bhn,bhnp->bhp", C[:, t].conj(), h).real)
        y = torch.stack(found, dim=1) + w["skip"][:, None] * values
        return (y.flatten(2) * F.silu(x @ w["gate"].T)) @ w["o"].T

    compare(ours(0.5, kind="recurrence", heads=HEADS, **SETTINGS), theirs)


def test_mamba3_of_several_inputs_and_outputs():
    """h_t = a_t h_{t-1} + (1 - l_t) d_t a_t B_{t-1} X_{t-1}^T + l_t d_t B_t X_t^T with R columns of B, C and X (its
    MIMO form): X = W_x * x, each column of C^T h + D X gated by silu(W_z * z), times W_o and summed, by head."""
    ranks = 3

    def theirs(x: Tensor, w: Weights) -> Tensor:
        def columns(name: str) -> Tensor:
            y = (x @ w[name].T).unflatten(-1, (GROUPS, ranks, -1)).repeat_interleave(HEADS // GROUPS, dim=2)
            bias = w[f"{name}_bias"].unflatten(0, (HEADS, ranks))
            return as_complex(normed(y, w[f"{name}_norm.gain"]) + bias)

        C, B = columns("q") * STATE**-0.5, columns("k")
        values = (x @ w["v"].T).unflatten(-1, (HEADS, 1, -1)) * w["value_ranks"]
        step = F.softplus(x @ w["decay"].T + w["decay_bias"])
        A = -F.softplus(x @ w["decay_rates"].T)
        blend = (x @ w["blend"].T).sigmoid()
        theta = by_group(x @ w["turn"].T)
        a = torch.exp(step[..., None] * torch.complex(A[..., None] + 0 * theta, -theta))
        h = torch.zeros(x.shape[0], HEADS, STATE // 2, values.shape[-1], dtype=torch.complex128)
        last, found = torch.zeros_like(h), []
        for t in range(x.shape[1]):
            written = torch.einsum("bhrn,bhrp->bhnp", B[:, t], values[:, t].to(B.dtype))
            share = (blend * step)[:, t, :, None, None]
            rest = ((1 - blend) * step)[:, t, :, None, None]
            h = a[:, t, :, :, None] * (h + rest * last) + share * written
            last = written
            found.append(torch.einsum("bhrn,bhnp->bhrp", C[:, t].conj(), h).real)
        y = torch.stack(found, dim=1) + w["skip"][:, None, None] * values
        z = (x @ w["gate"].T).unflatten(-1, (HEADS, 1, -1)) * w["gate_ranks"]
        return (y * F.silu(z) * w["out_ranks"]).sum(3).flatten(2) @ w["o"].T

    compare(ours(0.5, kind="recurrence", heads=HEADS, ranks=ranks, **SETTINGS), theirs)
