"""Steps of the delta rule that are exact or implicit, against matrix exponentials and linear solves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_scan_oracles import Weights, compare, ours
from torch import Tensor

from evo.blocks.recurrence.shares import integrated
from evo.compiler.check import problems
from evo.dsl.document import from_data

HEADS, KEY, VALUE = 2, 3, 4
BODY: dict[str, Any] = {"kind": "recurrence", "heads": HEADS, "key_dim": KEY, "value_dim": VALUE, "conv": 0}


def exact(state: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """S at beta of dS/dt = -k k^T S + k v^T, as one exponential of (K + V, K + V) (2512.12602)."""
    flow = torch.cat((-k[..., :, None] * k[..., None, :], k[..., :, None] * v[..., None, :]), -1)
    whole = torch.linalg.matrix_exp(F.pad(flow, (0, 0, 0, VALUE)) * beta[..., None, None])
    return whole[..., :KEY, :KEY] @ state + whole[..., :KEY, KEY:]


def implicit(state: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """The S nearest to the old one with beta |k S - v|² small: (I + beta k k^T) S' = S + beta k v^T (2407.14207)."""
    step = beta[..., None, None]
    left = torch.eye(KEY, dtype=k.dtype) + step * k[..., :, None] * k[..., None, :]
    return torch.linalg.solve(left, state + step * k[..., :, None] * v[..., None, :])


@pytest.mark.parametrize("decay", ["none", "token"])
@pytest.mark.parametrize("writes", [1, 2])
@pytest.mark.parametrize("step", [exact, implicit])
def test_steps_of_the_delta_rule(step: Any, writes: int, decay: str):
    """With keys of any length, decayed or not, once or twice a token: values and gradients."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        heads = lambda name, size: (x @ w[name].T).unflatten(-1, (-1, HEADS, size))  # noqa: E731
        q, k, v = heads("q", KEY)[:, :, 0] * KEY**-0.5, heads("k", KEY), heads("v", VALUE)
        beta = 1.5 * (x @ w["beta"].T).sigmoid().unflatten(-1, (-1, HEADS))
        state, found = x.new_zeros(x.shape[0], HEADS, KEY, VALUE), []
        for t in range(x.shape[1]):
            if decay == "token":
                log = -w["decay_rate"].exp() * F.softplus(x[:, t] @ w["decay"].T + w["decay_bias"])
                state = state * log.exp()[..., None, None]
            for n in range(writes):
                state = step(state, k[:, t, n], v[:, t, n], beta[:, t, n])
            found.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
        return torch.stack(found, 1).flatten(2) @ w["o"].T

    fields = {"feature": "identity", "gate": "none", "normalizer": "none", "beta_range": 1.5, "decay": decay}
    compare(ours(0.4, **BODY, **fields, writes=writes, integrator=step.__name__), theirs)


def test_short_keys_take_the_step_itself():
    """A key of length 0 has the share beta, and finite gradients."""
    k, beta = torch.zeros(1, 1, 1, KEY, requires_grad=True), torch.full((1, 1, 1), 0.5, requires_grad=True)
    share = integrated(k, {"beta_BTH": beta}, "exact")["beta_BTH"]
    torch.testing.assert_close(share, beta, rtol=1e-5, atol=0)
    assert all(g.isfinite().all() for g in torch.autograd.grad(share.sum(), [k, beta]))


def test_what_is_taken_out_is_what_is_written():
    """A step that is solved has one share, and without the delta rule there is none to solve."""
    for more, code in (({"erase": "head"}, "EVO305"), ({"update": "outer"}, "EVO330")):
        stages = [{"name": "s", "mix": {**BODY, "integrator": "exact", **more}}]
        body = {"width": 16, "context": 16, "stages": stages}
        found = problems(from_data({"evo": 1, "organism": body}).document)
        assert [fault.code for fault in found if "integrator" in fault.path] == [code]
