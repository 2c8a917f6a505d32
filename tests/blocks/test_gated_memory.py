"""Gates on what an earlier mixer read, against the paper's equation: values and gradients of every weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import built, inputs, organism, plan, stage
from torch import Tensor

from evo.base.diagnostics import DiagnosticError
from evo.blocks.flow import Flow
from evo.compiler.organism import OrganismState

SCAN = {"kind": "selective_scan", "inner": 24, "state": 3, "conv": 0, "reading_to": "m"}
LINEAR = {
    "kind": "recurrence", "heads": 2, "value_dim": 12, "update": "outer", "decay": "none", "feature": "elu", "conv": 0,
    "normalizer": "sum", "gate": "sigmoid", "reading_to": "m",
}  # fmt: skip
UNIT = {"kind": "gated_memory", "of": "m", "inner": 24}


def pair(mixer: dict[str, Any], unit: dict[str, Any]) -> list[Any]:
    """A mixer and what reads its memory, with large weights."""
    whole = plan([stage("a", mixer, ffn={"kind": "none"}), stage("b", unit, ffn={"kind": "none"})])
    blocks = [built(dict(dict(part.children)["0"].children)["mixer"]) for part in whole.stages]
    with torch.no_grad():
        for seed, weight in enumerate(weight for block in blocks for weight in block.parameters()):
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.dtype))
    return blocks


def scanned(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """C h + D u, token by token (2312.00752, algorithm 2), u not convolved."""
    u = x @ w["x"].T
    h, rows = u.new_zeros(len(x), u.shape[-1], 3), []
    for t in range(x.shape[1]):
        step = F.softplus(u[:, t] @ w["step_down"].T @ w["step_up"].T + w["step_bias"])
        b, c = u[:, t] @ w["b"].T, u[:, t] @ w["c"].T
        h = torch.exp(-step[..., None] * w["decay_rate"].exp()) * h + (step * u[:, t])[..., None] * b[:, None]
        rows.append((h * c[:, None]).sum(-1) + w["skip"] * u[:, t])
    return torch.stack(rows, 1)


def linear(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Linear attention's outputs by head, side by side."""
    q, k, v = ((x @ w[name].T).unflatten(-1, (2, -1)).transpose(1, 2) for name in "qkv")
    terms = ((F.elu(q) + 1) @ (F.elu(k) + 1).mT / q.shape[-1] ** 0.5).tril()
    return (terms @ v / (terms.sum(-1, keepdim=True) + 1e-6)).transpose(1, 2).flatten(-2)


@pytest.mark.parametrize(("mixer", "read"), [(SCAN, scanned), (LINEAR, linear)])
@pytest.mark.parametrize("norm", [None, {"kind": "rms"}])
def test_a_unit_gates_what_was_read(mixer: dict[str, Any], read: Any, norm: dict[str, Any] | None):
    """y = (m * silu(x W_1)) W_2, m before the mixer's gate and projection; with a norm for linear attention's."""
    first, second = pair(mixer, {**UNIT, **({} if norm is None else {"norm": norm})})
    flow, x = Flow(), inputs()
    first(x, flow)
    ours, w = second(x, flow), dict(second.named_parameters())
    memory = read(dict(first.named_parameters()), x) * F.silu(x @ w["gate"].T)
    if norm is not None:
        memory = F.rms_norm(memory, memory.shape[-1:], w["norm.gain"], 1e-6)
    theirs = memory @ w["o"].T
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    weights = [*first.parameters(), *second.parameters()]
    cotangent = inputs(seed=4)
    both = [torch.autograd.grad((y * cotangent).sum(), weights, allow_unused=True) for y in (ours, theirs)]
    for one, other in zip(*both, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("mixer", [{"kind": "selective_scan", "reading_to": "m"}, {**LINEAR, "value_dim": 32}])
def test_decoding_is_the_whole_pass(mixer: dict[str, Any]):
    """Token by token, memories of two layers."""
    inner = 64
    stages = [
        stage("a", {**mixer, "reading_to": "m"}),
        stage("b", {**UNIT, "inner": inner}, repeat=2),
    ]
    found = organism(stages, width=32)
    tokens = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for token_B1 in tokens.split(1, dim=1):
        logits, state = found.extend(token_B1, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(tokens), rtol=1e-9, atol=1e-11)


def test_a_memory_of_another_width_is_refused():
    """EVO315 names what is read."""
    with pytest.raises((AssertionError, DiagnosticError), match="EVO315"):
        plan([stage("a", SCAN), stage("b", {**UNIT, "inner": 16})])
