"""Feature maps of linear attention against what their papers say: values and gradients of every weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from papers import HEADS, by_heads, compare, read_out
from torch import Tensor

LINEAR = {
    "kind": "recurrence", "heads": HEADS, "update": "outer", "decay": "none", "normalizer": "sum", "conv": 0,
    "gate": "none",
}  # fmt: skip


def means(terms: Tensor, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The means of values by terms that are no weights yet, (B, H, T, S)."""
    terms = terms.tril()
    return read_out(terms / (terms.sum(-1, keepdim=True) + 1e-6), w, x)


def signs(x: Tensor) -> Tensor:
    """[softmax(x), softmax(-x)] (Zhang et al. 2402.04347, section 4.2 and the authors' code)."""
    return torch.cat([F.softmax(x, dim=-1), F.softmax(-x, dim=-1)], dim=-1)


def projection(x: Tensor) -> Tensor:
    """DPFP with nu = 1: k_i = r_i r_{i + 1} in a circle, r = relu([x, -x]) (Schlag et al. 2102.11174, eq. 37).

    Which neighbour is taken names channels in another order, so products are those of the authors' code.
    """
    r = torch.relu(torch.cat([x, -x], dim=-1))
    return torch.stack([r[..., i] * r[..., (i + 1) % r.shape[-1]] for i in range(r.shape[-1])], dim=-1)


@pytest.mark.parametrize("has_map", [False, True])
@pytest.mark.parametrize(("feature", "phi"), [("signs", signs), ("relu", torch.relu), ("neighbours", projection)])
def test_features_are_those_of_their_papers(feature: str, phi: Callable[[Tensor], Tensor], has_map: bool):
    """sum phi(q) phi(k) v / sum phi(q) phi(k), q and k behind a map of their head or not."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads(x @ w[name].T) for name in "qk")
        if has_map:
            q, k = (torch.einsum("bhtk,hok->bhto", y, w[f"{name}_map"]) for name, y in zip("qk", (q, k), strict=True))
        # without a scale of its own, a query counts key_dim ** -0.5 times, beside what is added to the sum
        return means(phi(q) @ phi(k).transpose(-1, -2) / q.shape[-1] ** 0.5, w, x)

    compare({**LINEAR, "feature": feature, "feature_map": has_map}, theirs, moved=0.4)


def test_squares_are_those_of_scores():
    """(q k)² / K over its sum, decayed by a gate (power attention, 2507.04239; ReBased, 2402.10644)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads(x @ w[name].T) for name in "qk")
        rates = F.logsigmoid(x @ w["decay"].T + w["decay_bias"]).transpose(1, 2).cumsum(-1)
        decays = (rates[..., :, None] - rates[..., None, :]).tril().exp()
        return means((q @ k.transpose(-1, -2)).square() / q.shape[-1] * decays, w, x)

    compare({**LINEAR, "feature": "squares", "decay": {"kind": "token", "form": "logsigmoid"}}, theirs, moved=0.4)
