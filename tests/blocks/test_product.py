"""Products of two blocks against papers' equations: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, plan
from papers import compare, convolved
from torch import Tensor

from evo.compiler.check import problems
from evo.dsl.document import from_data

SPACE: dict[str, Any] = {"kind": "state_space", "state": 3, "act": "identity", "maps": False}
GATED_SPACE: dict[str, Any] = {
    "chain": [
        {
            "product": [{"chain": [{"kind": "linear", "act": "gelu"}, SPACE, {"kind": "linear"}]}, {"kind": "linear"}],
            "act": "gelu",
            "norm": "none",
        },
        {"kind": "linear"},
    ]
}
H3: dict[str, Any] = {
    "chain": [
        {
            "product": [
                {
                    "chain": [
                        {
                            "product": [
                                {"chain": [{"kind": "linear"}, {"kind": "convolution", "size": 3, "maps": False}]},
                                {"kind": "linear"},
                            ],
                            "act": "identity",
                            "norm": "none",
                        },
                        SPACE,
                    ]
                },
                {"kind": "linear"},
            ],
            "act": "identity",
            "norm": "none",
        },
        {"kind": "linear"},
    ]
}


def read(w: Mapping[str, Tensor], name: str, u: Tensor) -> Tensor:
    """A diagonal state space's kernel on each channel, y_t = sum over s of Re(C lambda^(t - s) B) u_s + D u_t."""
    a = torch.complex(-w[f"{name}.rate"].exp(), w[f"{name}.frequency"])
    lam = torch.exp(w[f"{name}.step"].exp()[:, None] * a)
    c = torch.view_as_complex(w[f"{name}.c"]) * (lam - 1) / a
    kernel_TD = (c * lam ** torch.arange(u.shape[1])[:, None, None]).sum(-1).real
    rows = [(kernel_TD[: t + 1].flip(0) * u[:, : t + 1]).sum(1) for t in range(u.shape[1])]
    return torch.stack(rows, dim=1) + w[f"{name}.skip"] * u


def test_gated_state_spaces():
    """o = W_o (W_c ssm(gelu(W_u x)) * gelu(W_v x)) (GSS, Mehta et al. 2206.13947, figure 1)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        u = F.gelu(x @ w["link0.main.link0.o"].T)
        c = read(w, "link0.main.link1", u) @ w["link0.main.link2.o"].T
        return (c * F.gelu(x @ w["link0.gate.o"].T)) @ w["link1.o"].T

    compare(GATED_SPACE, theirs, moved=0.1)


def test_hungry_hungry_hippos():
    """q * ssm_diag(ssm_shift(k) * v) with heads of one channel, the shift a filter (H3, Fu et al. 2212.14052, 3.1)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        k = convolved(x @ w["link0.main.link0.main.link0.o"].T, w["link0.main.link0.main.link1.taps"])
        kv = k * (x @ w["link0.main.link0.gate.o"].T)
        return ((x @ w["link0.gate.o"].T) * read(w, "link0.main.link1", kv)) @ w["link1.o"].T

    compare(H3, theirs, moved=0.1)


def test_norms_and_activation_are_the_gates():
    """norm(main) * act(norm(gate)), each norm with weights of its own (Titans, Behrouz et al. 2501.00663, 4.2)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        main, gate = (
            F.rms_norm(x @ w[f"{name}.o"].T, x.shape[-1:], eps=1e-6) * w[f"{name}_norm.gain"]
            for name in ("main", "gate")
        )
        return main * gate.sigmoid()

    compare({"product": [{"kind": "linear"}, {"kind": "linear"}]}, theirs, moved=0.3)


@pytest.mark.parametrize(("act", "is_silent"), [("sigmoid", True), ("softplus", True), ("silu", False)])
def test_only_a_gate_that_is_open_at_first_may_be_silent(act: str, is_silent: bool):
    """Where act(0) is 0, a product of two blocks that give 0 would learn nothing."""
    mixer = {"product": [{"kind": "linear"}, {"kind": "linear"}], "act": act}
    assert block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": mixer}]}}]), "0").can_be_silent == is_silent


@pytest.mark.parametrize("act", ["identity", "relu", "sigmoid"])
def test_a_map_is_silent_where_its_activation_lets_it_learn(act: str):
    """Neither sigmoid, which is not 0 at 0, nor relu, which is flat there."""
    mixer = {"kind": "linear", "act": act}
    is_silent = block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": mixer}]}}]), "0").can_be_silent
    assert is_silent == (act == "identity")


def test_what_cannot_be():
    """EVO306: a product with nothing, and a state space without maps that gives another width than it reads."""
    nothing = {"product": [{"kind": "linear"}, {"kind": "none"}]}
    joined = {"joined": SPACE}
    for mixer in (nothing, joined):
        body = {"width": 16, "stages": [{"name": "s", "mix": mixer}]}
        found = [fault.code for fault in problems(from_data({"evo": 1, "organism": body}).document)]
        assert found == ["EVO306"]
