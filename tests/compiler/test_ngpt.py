"""nGPT as a whole, against its paper's equations: logits, and the gradient of every weight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.compiler.build import build
from evo.compiler.check import require_valid
from evo.compiler.resolve import resolve
from evo.dsl.document import load

DOCUMENT = Path(__file__).parents[2] / "examples" / "ngpt.yaml"
WIDTH, HEADS, LAYERS, TIME = 128, 4, 4, 11
DIM = WIDTH // HEADS


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """Vectors of unit length."""
    return x / x.norm(dim=dim, keepdim=True)


def turned(x_BTHK: Tensor) -> Tensor:
    """Rotary positions, channel i beside i + K / 2."""
    rates = 10000.0 ** (-torch.arange(0, DIM, 2).double() / DIM)
    angles = torch.arange(x_BTHK.shape[1]).double()[:, None] * rates
    cos, sin = (f(angles)[:, None] for f in (torch.cos, torch.sin))
    a, b = x_BTHK.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def attention(w: Mapping[str, Tensor], h: Tensor) -> Tensor:
    """Equations 15 and 16, and softmax(sqrt(d_k) q k) v; rows of maps are unit vectors, columns of the last."""
    q, k, v = ((h @ unit(w[name]).T).unflatten(-1, (HEADS, DIM)) for name in "qkv")
    q, k = (unit(turned(x)) * w[f"{name}_norm.gain"].view(HEADS, DIM) for x, name in ((q, "q"), (k, "k")))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=DIM**0.5)
    return o.transpose(1, 2).flatten(-2) @ unit(w["o"], 0).T


def mlp(w: Mapping[str, Tensor], h: Tensor) -> Tensor:
    """Equations 20 and 21: (u s_u) silu(v s_v), where s_v holds the root of the width."""
    u, v = (h @ unit(w[name]).T * w[f"{name}_gain.gain"] for name in ("up", "gate"))
    return (u * F.silu(v)) @ unit(w["down"], 0).T


def theirs(w: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """h <- Norm(h + a (Norm(f(h)) - h)) twice a layer, and logits s_z E h (equations 2 to 5, 10, 11)."""
    h = unit(w["embedding.weight"][tokens])
    for layer in range(LAYERS):
        for place, block in enumerate((attention, mlp)):
            at = f"stages.sphere.of_body.{layer}."
            own = {name.removeprefix(f"{at}{place}."): weight for name, weight in w.items()}
            h = unit(h + w[f"{at}{place}_gain"] * (unit(block(own, h)) - h))
    return h @ unit(w["readout.weight"]).T * w["readout.gain"] * WIDTH**0.5


def test_ngpt_whole():
    """The example computes what the paper says, whatever its weights."""
    model = build(resolve(require_valid(load(DOCUMENT)).organism), 0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.2)
    w = dict(model.named_parameters())
    tokens = torch.randint(256, (2, TIME), generator=generator)
    ours, expected = model(tokens), theirs(w, tokens)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)  # evo's norms add 1e-6 inside the root
    cotangent = torch.randn(ours.shape, generator=generator, dtype=ours.dtype)
    got, wanted = (torch.autograd.grad((y * cotangent).sum(), list(w.values())) for y in (ours, expected))
    for name, one, other in zip(w, got, wanted, strict=True):
        bar = 1e-3 * float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-3, atol=bar, msg=lambda text, n=name: f"{n}: {text}")
