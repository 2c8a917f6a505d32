"""Recurrences read through an inverse and by levels, against fla's naive functions and states written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, plan
from test_recurrence_oracles import (
    DIMS,
    HEADS,
    KEY,
    TIME,
    VALUE,
    WIDTH,
    Weights,
    compare,
    heads,
    large,
    root_mean_square,
)
from torch import Tensor

from evo.blocks.base import Block
from evo.kernels.recurrence.levels import Levels, recur_by_level
from oracles import naive

pytestmark = pytest.mark.filterwarnings("ignore")
SETTINGS = {"update": "outer", "conv": 0, "scale": 1.0, "gate": "none"}


def our(**settings: Any) -> Block:
    """The block in this language, float32, in a context of TIME tokens."""
    stages = [{"name": "s", "mix": {**DIMS, **settings}}]
    return built(block_of(plan(stages, width=WIDTH, context=TIME), "mixer")).float()


def unit(x: Tensor) -> Tensor:
    """x / |x|."""
    return x / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()


def mesa_parts(x: Tensor, w: Weights) -> tuple[Tensor, ...]:
    """q, k, v, log decay, ridge and share as MesaNet has them."""
    q, k, v = (heads(x @ w[name].T, size) for name, size in (("q", KEY), ("k", KEY), ("v", KEY)))
    decay = F.logsigmoid(x @ w["decay"].T + w["decay_bias"])
    return unit(q), unit(k), v, decay, F.softplus(w["ridge"]) + 0.25, torch.sigmoid(x @ w["beta"].T)


MESA = {
    **SETTINGS, "decay": {"kind": "token", "form": "logsigmoid"}, "write": "share", "value_dim": KEY,
}  # fmt: skip


def test_mesa_net():
    """MesaNet, whose inverse is exact after as many steps as keys have channels, and more."""
    exact = naive("fla.ops.mesa_net.naive:naive_mesa_net_exact")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        o = exact(*mesa_parts(x, w))[0]
        return root_mean_square(o, w["out_norm"]).flatten(2) @ w["o"].T

    compare(large(our(**MESA, solve=16), 0.5), theirs)


@pytest.mark.parametrize("steps", [1, 3])
def test_few_steps_are_best_in_their_space(steps: int):
    """n steps give the vector of span(q, A q, ..., A^(n-1) q) that is nearest to A^-1 q by the norm of A."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v, decay, ridge, share = (y.double() for y in mesa_parts(x, w))
        gram, state, rows = torch.diag_embed(0 * ridge), torch.diag_embed(0 * ridge), []
        for t in range(TIME):
            kept, key = decay[:, t, :, None, None].exp(), share[:, t, :, None, None] * k[:, t, :, :, None]
            gram, state = kept * gram + key * k[:, t, :, None], kept * state + key * v[:, t, :, None]
            whole = gram + torch.diag_embed(ridge)
            space = [q[:, t, :, :, None]]
            for _ in range(steps - 1):
                space.append(whole @ space[-1])
            basis = torch.cat(space, -1)
            solved = basis @ torch.linalg.solve(basis.mT @ whole @ basis, basis.mT @ space[0])
            rows.append((solved.mT @ state).squeeze(-2))
        return root_mean_square(torch.stack(rows, 1).float(), w["out_norm"]).flatten(2) @ w["o"].T

    compare(large(our(**MESA, solve=steps), 0.5), theirs)


def level_weights(x: Tensor, w: Weights) -> Tensor:
    """(B, T, H, L)."""
    return F.softplus(w["level_gain"] * (x @ w["level"].T).unflatten(-1, (HEADS, -1)))


def test_log_linear_mamba_2():
    """Outer updates with a decay of each token, each level with a weight."""
    attend = naive("fla.ops.log_linear_attn.naive:naive_log_linear_attn")

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (heads(x @ w[name].T, size) for name, size in (("q", KEY), ("k", KEY), ("v", VALUE)))
        step = F.softplus(x @ w["decay"].T + w["decay_bias"])
        o = attend(q, k, v * step[..., None], -w["decay_rate"].exp() * step, level_weights(x, w))
        return root_mean_square(o, w["out_norm"]).flatten(2) @ w["o"].T

    compare(large(our(**SETTINGS, feature="identity", write="step", levels=True), 0.4), theirs)


def test_log_linear_gated_delta_net():
    """The delta rule: what each token wrote passes all later transitions, and is read by the level that it lies on."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (heads(x @ w[name].T, size) for name, size in (("q", KEY), ("k", KEY), ("v", VALUE)))
        q, k, share, levels = unit(q), unit(k), torch.sigmoid(x @ w["beta"].T), level_weights(x, w)
        kept = (-w["decay_rate"].exp() * F.softplus(x @ w["decay"].T + w["decay_bias"])).exp()
        written, rows = [], []
        for t in range(TIME):
            taken = torch.eye(KEY) - share[:, t, :, None, None] * k[:, t, :, :, None] * k[:, t, :, None]
            moved = kept[:, t, :, None, None] * taken
            written = [moved @ state for state in written]
            written.append(share[:, t, :, None, None] * k[:, t, :, :, None] * v[:, t, :, None])
            weights = [levels[:, t, :, (t ^ s).bit_length(), None, None] for s in range(t + 1)]
            state = sum(weight * state for weight, state in zip(weights, written, strict=True))
            rows.append(torch.einsum("bhk,bhkv->bhv", q[:, t], torch.as_tensor(state)))
        return root_mean_square(torch.stack(rows, 1), w["out_norm"]).flatten(2) @ w["o"].T

    compare(large(our(conv=0, scale=1.0, gate="none", levels=True), 0.4), theirs)


def test_the_last_level_takes_what_lies_beyond():
    """With fewer levels than the sequence needs, the last one is read for all that is further away."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, TIME, 3, dim, generator=generator, dtype=torch.float64) for dim in (4, 4, 5))
    weight = torch.rand(2, TIME, 3, 4, generator=generator, dtype=torch.float64)
    none = Levels(q.new_zeros(2, 3, 4, 4, 5), torch.zeros(2, dtype=torch.long))
    wanted = []
    for t in range(TIME):
        level = [min((t ^ s).bit_length(), 3) for s in range(t + 1)]
        scores = torch.einsum("bhk,bshk->bhs", q[:, t], k[:, : t + 1]) * weight[:, t][..., level]
        wanted.append(torch.einsum("bhs,bshv->bhv", scores, v[:, : t + 1]))
    for lengths in ((TIME,), (7, 1, 8, 20, TIME - 36)):
        state, found = none, []
        for q_, k_, v_, weight_ in zip(*(x.split(lengths, dim=1) for x in (q, k, v, weight)), strict=True):
            o, state = recur_by_level(q_, k_, v_, weight_, state)
            found.append(o)
        torch.testing.assert_close(torch.cat(found, 1), torch.stack(wanted, 1))


@pytest.mark.parametrize("decay", ["channel", "token"])
def test_turning_is_a_complex_decay(decay: str):
    """Pairs of channels are complex numbers whose state turns with each token (GateLoop; Mamba-3 with a step)."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        q, k, v = (heads(x @ w[name].T, size) for name, size in (("q", KEY), ("k", KEY), ("v", VALUE)))
        q, k = (torch.complex(*y.chunk(2, -1)) for y in (q, k))
        angle = heads(x @ w["turn"].T, KEY // 2)
        if decay == "token":
            step = F.softplus(x @ w["decay"].T + w["decay_bias"])
            angle, v = angle * step[..., None], v * step[..., None]
            log_decay = (-w["decay_rate"].exp() * step)[..., None].expand_as(angle)
        else:
            logits = heads(x @ w["decay_down"].T @ w["decay_up"].T + w["decay_bias"], KEY)
            log_decay = torch.stack((F.logsigmoid(logits) / 16).chunk(2, -1)).mean(0)
        state, rows = torch.zeros(2, HEADS, KEY // 2, VALUE, dtype=q.dtype), []
        for t in range(TIME):
            state = torch.polar(log_decay[:, t].exp(), -angle[:, t])[..., None] * state
            state = state + k[:, t, ..., None] * v[:, t, :, None].to(q.dtype)
            rows.append(torch.einsum("bhk,bhkv->bhv", q[:, t].conj(), state).real)
        return root_mean_square(torch.stack(rows, 1), w["out_norm"]).flatten(2) @ w["o"].T

    settings = {**SETTINGS, "feature": "identity", "turns": True, "decay": decay}
    compare(large(our(**settings, write="step" if decay == "token" else "plain"), 0.4), theirs)
