"""Members of the recurrence family drawn at random, and their errors against the float64 equation."""

import torch
from tests.kernels.device import DEVICE
from torch.nn.functional import normalize

from evo.kernels.recurrence import recur
from evo.kernels.triton_support import is_interpreting

DTYPES = [torch.float32] if is_interpreting() else [torch.float32, torch.float16, torch.bfloat16]
BOUNDS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2.5e-2}
BATCH, TIME = (1, 37) if is_interpreting() else (2, 333)
"""An odd length over several chunks; the interpreter takes half a second for each head's chunk."""


def draw(decay, update, B=BATCH, T=TIME, H=2, K=16, V=24, dtype=torch.float32, state=True, strength=0.2):
    """q, k, v, then for DPLR updates a and b, in `dtype`, and float32 parts; all on the device, with gradients."""
    stream = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=stream)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, generator=stream)  # noqa: E731
    inputs = [normal(B, T, H, K), normalize(normal(B, T, H, K), dim=-1), normal(B, T, H, V)]
    shapes = {"head": (H,), "token": (B, T, H), "channel": (B, T, H, K)}
    parts = {} if decay == "none" else {"log_decay": -strength * uniform(*shapes[decay])}
    if update == "delta":
        parts["beta_BTH"] = uniform(B, T, H)
    if update.startswith("dplr"):
        a = normalize(normal(B, T, H, K), dim=-1)
        inputs += [a, -a * uniform(B, T, H, K)]
    if update.endswith("bonus"):
        parts["bonus_HK"] = normal(H, K)
    if state:
        parts["initial_state_BHKV"] = normal(B, H, K, V)
    inputs = [x.to(DEVICE, dtype).requires_grad_() for x in inputs]
    return inputs, {name: x.to(DEVICE).requires_grad_() for name, x in parts.items()}


def answer(inputs, parts, **options):
    """Output, final state and gradients of a loss that weighs both."""
    dplr = {"dplr": tuple(inputs[3:])} if inputs[3:] else {}
    o, state = recur(*inputs[:3], **dplr, **parts, **options)
    weights = torch.cos(torch.arange(o.numel(), device=o.device)).reshape(o.shape)
    loss = (o * weights.to(o.dtype)).sum() + (state * torch.sin(state.detach())).sum()
    return [o.detach(), state.detach(), *torch.autograd.grad(loss, [*inputs, *parts.values()])]


def widened(inputs, parts):
    """The same numbers as float64 leaves."""
    wide = [x.detach().double().requires_grad_() for x in inputs]
    return wide, {name: x.detach().double().requires_grad_() for name, x in parts.items()}


def errors(inputs, parts, exact="reference"):
    """Relative Frobenius errors against the float64 equation (against 0.1 an element where that is about zero)."""
    expected = answer(*widened(inputs, parts), backend=exact)
    found = answer(inputs, parts, backend="triton")
    names = ["o", "state", *["dq", "dk", "dv", "da", "db"][: len(inputs)], *parts]
    sizes = [w.norm().clamp(min=0.1 * w.numel() ** 0.5) for w in expected]
    return {n: ((g.double() - w).norm() / s).item() for n, g, w, s in zip(names, found, expected, sizes, strict=True)}


def check(inputs, parts, exact="reference"):
    found = errors(inputs, parts, exact)
    assert all(error < BOUNDS[inputs[0].dtype] for error in found.values()), found
