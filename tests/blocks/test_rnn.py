"""Recurrent networks against torch's, and sLSTM against its equations without a stabiliser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import built, inputs, mixer_plan
from recurrent_variants import RECURRENT
from test_gated_scan import logit
from test_scan_oracles import WIDTH, Weights, call, compare, ours
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, Project
from evo.blocks.rnn.module import RnnState
from evo.blocks.rnn.walk import walk
from evo.kernels.fused.project import project
from evo.kernels.grouped import Groups

INNER = 12


def torch_names(w: Weights, *order: str) -> Weights:
    """A network of one head under the names of torch's, whose gates have another order."""
    ours_first = [
        name for name in ("input_gate", "forget_gate", "output_gate", "reset_gate", "update_gate") if name in w
    ]
    own = dict(zip([*ours_first, "candidate"], w["own"][0].split(INNER), strict=True))
    own_bias = {"candidate": w["candidate_own_bias"]} if "candidate_own_bias" in w else {}
    return {
        "weight_ih_l0": torch.cat([w[name] for name in order]),
        "bias_ih_l0": torch.cat([w[f"{name}_bias"] for name in order]),
        "weight_hh_l0": torch.cat([own[name] for name in order]),
        "bias_hh_l0": torch.cat([own_bias.get(name, torch.zeros_like(w["candidate_bias"])) for name in order]),
    }


ORDERS = {
    "lstm": (nn.LSTM, ("input_gate", "forget_gate", "candidate", "output_gate")),
    "gru": (nn.GRU, ("reset_gate", "update_gate", "candidate")),
    "plain": (nn.RNN, ("candidate",)),
}


@pytest.mark.parametrize("cell", ORDERS)
def test_torch(cell: str):
    """torch's LSTM, GRU and RNN."""
    network, order = ORDERS[cell]

    def theirs(x: Tensor, w: Weights) -> Tensor:
        h, _ = call(network(WIDTH, INNER, batch_first=True), torch_names(w, *order), x)
        return F.linear(h, w["o"], w["o_bias"])

    compare(ours(0.5, kind="rnn", cell=cell, inner=INNER, bias=True), theirs)


def own_map(w: Weights, h: Tensor, name: str = "own") -> Tensor:
    """R h of blocks on a diagonal, (B, C) -> (B, G, C)."""
    heads, rows, part = w[name].shape
    whole = [torch.block_diag(*(w[name][head].split(part)[g] for head in range(heads))) for g in range(rows // part)]
    return torch.stack([h @ matrix.T for matrix in whole], dim=1)


def run(x: Tensor, w: Weights, step: Callable[[int, Tensor, tuple[Any, ...]], tuple[Any, ...]], kept: int) -> Tensor:
    """The first of what a step keeps, token by token, mapped."""
    memory: tuple[Any, ...] = (x.new_zeros(x.shape[0], w["o"].shape[1]),) * kept
    found: list[Tensor] = []
    for t in range(x.shape[1]):
        memory = step(t, x[:, t], memory)
        found.append(memory[0])
    return torch.stack(found, dim=1) @ w["o"].T


def test_gru_with_reset_before():
    """The candidate of the GRU as published maps r h (Cho et al. 1406.1078, eq. 8), blocks apart."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        def step(_: int, x: Tensor, memory: tuple[Any, ...]) -> tuple[Any, ...]:
            (h,) = memory
            own = own_map(w, h)
            r, u = (logit(x, w, f"{name}_gate") + own[:, i] for i, name in enumerate(("reset", "update")))
            n = torch.tanh(logit(x, w, "candidate") + own_map(w, r.sigmoid() * h, "candidate_own")[:, 0])
            return ((1 - u.sigmoid()) * n + u.sigmoid() * h,)

        return run(x, w, step, 1)

    compare(ours(0.5, kind="rnn", cell="gru", reset="before", heads=4), theirs)


@pytest.mark.parametrize("forget", ["sigmoid", "exponential"])
def test_slstm(forget: str):
    """xLSTM's eq. 8 to 14 with plain exponentials, which the stabiliser must not change; gates read silu of taps."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        padded = F.pad(x.mT, (2, 0))
        tapped = F.silu(F.conv1d(padded, w["taps"][:, None], groups=WIDTH)).mT

        def step(t: int, x: Tensor, memory: tuple[Any, ...]) -> tuple[Any, ...]:
            h, c, n = memory
            own, read = own_map(w, h), tapped[:, t]
            i = (logit(read, w, "input_gate") + own[:, 0] + 0.7).exp()  # a bias here divides itself out
            f = logit(read, w, "forget_gate") + own[:, 1]
            f = f.sigmoid() if forget == "sigmoid" else f.exp()
            o = (logit(x, w, "output_gate") + own[:, 2]).sigmoid()
            z = torch.tanh(logit(x, w, "candidate") + own[:, 3])
            c, n = f * c + i * z, f * n + i
            return o * c / n, c, n

        return run(x, w, step, 3)

    compare(ours(0.5, kind="rnn", heads=2, input="exponential", forget=forget, conv=3), theirs)


def test_coupled_gates():
    """input rest: what is taken in is what is forgotten (CIFG, Greff et al. 1503.04069)."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        def step(_: int, x: Tensor, memory: tuple[Any, ...]) -> tuple[Any, ...]:
            h, c = memory
            own = own_map(w, h)
            f, o = (logit(x, w, f"{name}_gate") + own[:, i] for i, name in enumerate(("forget", "output")))
            f, z = f.sigmoid(), F.relu(logit(x, w, "candidate") + own[:, 2])
            c = f * c + (1 - f) * z
            return o.sigmoid() * F.relu(c), c

        return run(x, w, step, 2)

    compare(ours(0.5, kind="rnn", input="rest", act="relu"), theirs)


def test_exponential_gates_of_any_size():
    """Exponents far beyond what floats hold give finite outputs and gradients, from the first token on."""
    for shift in (-2000.0, 2000.0):
        block = ours(0.5, kind="rnn", input="exponential").float()
        with torch.no_grad():
            block.get_parameter("input_gate").fill_(shift)
        x = torch.randn(1, 5, WIDTH, generator=torch.Generator().manual_seed(0))
        y = block(x, Flow())
        gradients = torch.autograd.grad(y.square().sum(), list(block.parameters()))
        assert y.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients)


SETTINGS: dict[str, dict[str, Any]] = {name: data for name, data in RECURRENT.items() if data["kind"] == "rnn"}


def read(block: Block, x: Tensor, flow: Callable[[int, int], Flow], *ends: int) -> list[Tensor | None]:
    """Outputs and the memory after the last of parts that end so, and the gradients of inputs and parameters."""
    x, found, start = x.detach().requires_grad_(), list[Tensor](), 0
    state = block.initial_state(x.shape[0], x.device, x.dtype)
    for end in ends:
        y, state = block.extend(x[:, start:end], state, flow(start, end))
        found.append(y)
        start = end
    assert isinstance(state, RnnState)
    outputs = [torch.cat(found, dim=1), *state.memory]
    loss = sum((part.sin().sum() for part in outputs), torch.zeros(()))
    return [*outputs, *torch.autograd.grad(loss, [x, *block.parameters()])]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_walk(name: str, packed: bool):
    """The walk over all tokens is the loop that autograd follows: outputs, memories and gradients, in two parts, the
    second of which begins with what the first one kept; over documents of one token and of many."""
    block, x = built(mixer_plan(name)), 3 * inputs(time=101)
    ids = torch.tensor([[1] * 7 + [2] + [3] * 52 + [3, 4] * 20 + [4], [5] * 101])

    def flow(project: Project) -> Callable[[int, int], Flow]:
        return lambda start, end: Flow(project=project, segments_BT=ids[:, start:end] if packed else None)

    def another(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
        return project(x, weight, bias, groups)

    walked, looped = (read(block, x, flow(way), 60, 101) for way in (project, another))
    torch.testing.assert_close(walked, looped, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore")
def test_walk_is_a_custom_operator():
    """What traces it finds torch's rules kept: its schema, its fake results and its gradients."""
    block, parts = built(mixer_plan("rnn, gru")), torch.randn(2, 4, 3, 3, 8, dtype=torch.float64, requires_grad=True)
    bias, before = block.get_parameter("candidate_own_bias").unflatten(0, (2, -1)), parts.new_zeros(1, 2, 3, 8)
    starts = torch.zeros(2, 4, 3, dtype=torch.bool)
    arguments = (parts, block.get_parameter("own"), bias, None, before, starts, "gru", "sigmoid", "tanh")
    kept = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(walk.traced, arguments, test_utils=kept)
