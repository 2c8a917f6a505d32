"""Polar positions against x-transformers and the equation, and what they cannot be with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, plan, stage
from papers import ATTENTION, HEADS, by_heads, compare, read_out
from torch import Tensor

from evo.compiler.check import problems
from evo.dsl.document import from_data

POLAR = {**ATTENTION, "position": {"kind": "polar", "theta": 300.0}}


@pytest.mark.filterwarnings("ignore")
def test_polar_positions_are_those_of_x_transformers():
    """Queries and keys as its `apply_polar_pos_emb` makes them, the phase added to keys (its PolarEmbedding)."""
    modeling = pytest.importorskip("x_transformers.x_transformers", reason="the oracle x-transformers is not installed")

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads(x @ w[name].T) for name in "qk")
        embedding = modeling.PolarEmbedding(q.shape[-1], HEADS, base=300.0).double()
        embedding.inv_freq = 300.0 ** (-torch.arange(q.shape[-1], dtype=torch.float64) / q.shape[-1])
        del embedding.learned_bias
        embedding.learned_bias = w["position.phase"][:, None]
        freqs, bias = embedding(torch.arange(x.shape[1]))
        turned = [turn(modeling, part, angles) for part, angles in ((q, freqs), (k, freqs + bias))]
        return read_out(masked(turned[0] @ turned[1].mT / q.shape[-1] ** 0.5).softmax(-1), w, x)

    def turn(modeling: Any, x: Tensor, angles: Tensor) -> Tensor:
        """Its function computes in float32: the same with that left out."""
        assert modeling.apply_polar_pos_emb(x, angles).allclose(spread(x, angles), rtol=1e-4, atol=1e-5)
        return spread(x, angles)

    compare(POLAR, theirs, moved=0.3)


def spread(x: Tensor, angles: Tensor) -> Tensor:
    """softplus(x) (cos, sin)."""
    return torch.cat((F.softplus(x) * angles.cos(), F.softplus(x) * angles.sin()), -1)


def masked(logits: Tensor) -> Tensor:
    """Scores of keys so far."""
    return logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), -math.inf)


@pytest.mark.parametrize("scale", [None, 0.7])
def test_scores_are_magnitudes_times_cosines(scale: float | None):
    """sum_c softplus(q_c) softplus(k_c) cos((s - t) theta_c + delta_c), delta in [-2 pi, 0] (2509.10534, eq. 8)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (F.softplus(by_heads(x @ w[name].T)) for name in "qk")
        theta = 300.0 ** (-torch.arange(q.shape[-1], dtype=torch.float64) / q.shape[-1])
        at = torch.arange(x.shape[1], dtype=torch.float64)
        delta = w["position.phase"].clamp(-2 * math.pi, 0.0)[:, None, None]
        waves = ((at[None, :, None] - at[:, None, None]) * theta + delta).cos()
        logits = torch.einsum("bhtc,bhsc,htsc->bhts", q, k, waves) * (scale or q.shape[-1] ** -0.5)
        return read_out(masked(logits).softmax(-1), w, x)

    compare({**POLAR, "scale": scale}, theirs, moved=0.3)


def test_keys_are_kept_twice_as_wide():
    """A token costs 2 K numbers a key head, and V a value head."""
    block = block_of(plan([stage("s", {**POLAR, "kv_heads": 1, "head_dim": 6, "value_dim": 5})]), "mixer")
    assert block.cost.cache_vectors == (12, 5)


@pytest.mark.parametrize(
    ("mixer", "code"),
    [
        ({**POLAR, "persistent": 2}, "EVO361"),
        ({**POLAR, "values": "turned_keys"}, "EVO361"),
        ({**POLAR, "select": {"kind": "means", "size": 4, "top": 2}}, "EVO361"),
        ({**POLAR, "qk_norm": "rms", "qk_norm_at": "position"}, "EVO361"),
        ({"kind": "latent", "heads": 2, "kv_rank": 4, "position": {"kind": "polar"}}, "EVO361"),
        ({"kind": "recurrence", "heads": 2, "position": {"kind": "polar"}}, "EVO304"),
    ],
)
def test_what_cannot_be(mixer: dict[str, Any], code: str) -> None:
    """Whatever reads keys as wide as they are projected."""
    organism = {"width": 16, "context": 16, "stages": [stage("s", mixer)]}
    found = problems(from_data({"evo": 1, "organism": organism}).document)
    assert {fault.code for fault in found if fault.severity == "error"} == {code}
