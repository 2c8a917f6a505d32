"""Vectors of distances against the papers' equations: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from papers import ATTENTION, HEADS, by_heads, compare, read_out
from torch import Tensor


@pytest.mark.parametrize("furthest", [1, 5, 100])
def test_vectors_of_distances_are_shaws(furthest: int):
    """e_ij = q_i (k_j + a_clip(j - i))^T / sqrt(K), one table for all heads (1803.02155, eq. 4 and section 3.2)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads(x @ w[name].T) for name in "qk")
        T = x.shape[1]
        a = torch.stack(
            [torch.stack([w["position.vectors"][min(max(i - j, 0), furthest)] for j in range(T)]) for i in range(T)]
        )
        scores = torch.einsum("bhik,bhijk->bhij", q, k[:, :, None] + a) / q.shape[-1] ** 0.5
        future = torch.ones(T, T).triu(1).bool()
        return read_out(scores.masked_fill(future, -torch.inf).softmax(-1), w, x)

    compare({**ATTENTION, "position": {"kind": "relative", "furthest": furthest}}, theirs, moved=0.3)


def test_vectors_of_each_head_are_the_music_transformers():
    """softmax((Q K^T + skew(Q E^T)) / sqrt(K)) V by head, by the authors' skewing (1809.04281, section 3.4.1)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads(x @ w[name].T) for name in "qk")
        T = x.shape[1]
        e = w["position.vectors"][:, :T].flip(1)  # their rows are distances -(L - 1) .. 0
        by_distance = F.pad(q @ e.transpose(-1, -2), (1, 0))
        skewed = by_distance.view(*by_distance.shape[:2], T + 1, T)[:, :, 1:]
        scores = (q @ k.transpose(-1, -2) + skewed) / q.shape[-1] ** 0.5
        future = torch.ones(T, T).triu(1).bool()
        return read_out(scores.masked_fill(future, -torch.inf).softmax(-1), w, x)

    compare({**ATTENTION, "heads": HEADS, "position": {"kind": "relative", "furthest": 30, "per": "head"}}, theirs, 0.3)
