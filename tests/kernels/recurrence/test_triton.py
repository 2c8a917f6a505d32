"""The Triton recurrence against the float64 equation: values, final states and gradients.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

import pytest
import torch
from torch.nn.functional import normalize

from evo.kernels.recurrence import recur
from evo.kernels.triton_support import is_interpreting

DEVICE = "cpu" if is_interpreting() else "cuda"
pytestmark = [pytest.mark.skipif(not is_interpreting() and not torch.cuda.is_available(), reason="needs a CUDA device")]
if not is_interpreting():
    pytestmark.append(pytest.mark.gpu)

DTYPES = [torch.float32] if is_interpreting() else [torch.float32, torch.float16, torch.bfloat16]
BOUNDS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2.5e-2}
MEMBERS = [
    ("none", "outer"),
    ("head", "outer"),
    ("token", "outer"),
    ("head", "bonus"),
    ("token", "bonus"),
    ("channel", "outer"),
    ("channel", "bonus"),
    ("none", "delta"),
    ("head", "delta"),
    ("token", "delta"),
]
TIME = 70 if is_interpreting() else 333


@pytest.fixture
def poisoned(monkeypatch):
    """Every tensor made by torch.empty and empty_like holds NaN, so that what a kernel does not write shows."""
    for name in ("empty", "empty_like"):
        make = getattr(torch, name)

        def filled(*args, make=make, **options):
            found = make(*args, **options)
            return found.fill_(float("nan")) if found.is_floating_point() else found

        monkeypatch.setattr(torch, name, filled)


def draw(decay, update, B=2, T=TIME, H=2, K=16, V=24, dtype=torch.float32, state=True, strength=0.2):
    """q, k, v in `dtype` and float32 parts, all on the device, with gradients."""
    stream = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=stream)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, generator=stream)  # noqa: E731
    inputs = normal(B, T, H, K), normalize(normal(B, T, H, K), dim=-1), normal(B, T, H, V)
    shapes = {"head": (H,), "token": (B, T, H), "channel": (B, T, H, K)}
    parts = {} if decay == "none" else {"log_decay": -strength * uniform(*shapes[decay])}
    if update == "delta":
        parts["beta_BTH"] = uniform(B, T, H)
    if update == "bonus":
        parts["bonus_HK"] = normal(H, K)
    if state:
        parts["initial_state_BHKV"] = normal(B, H, K, V)
    inputs = [x.to(DEVICE, dtype).requires_grad_() for x in inputs]
    return inputs, {name: x.to(DEVICE).requires_grad_() for name, x in parts.items()}


def answer(inputs, parts, **options):
    """Output, final state and gradients of a loss that weighs both."""
    o, state = recur(*inputs, **parts, **options)
    weights = torch.cos(torch.arange(o.numel(), device=o.device)).reshape(o.shape)
    loss = (o * weights.to(o.dtype)).sum() + (state * torch.sin(state.detach())).sum()
    return [o.detach(), state.detach(), *torch.autograd.grad(loss, [*inputs, *parts.values()])]


def errors(inputs, parts, exact="reference"):
    """Relative Frobenius errors against the float64 equation (against 0.1 an element where that is about zero)."""
    wide = [x.detach().double().requires_grad_() for x in inputs]
    wide_parts = {name: x.detach().double().requires_grad_() for name, x in parts.items()}
    expected = answer(wide, wide_parts, backend=exact)
    found = answer(inputs, parts, backend="triton")
    names = ["o", "state", "dq", "dk", "dv", *parts]
    sizes = [w.norm().clamp(min=0.1 * w.numel() ** 0.5) for w in expected]
    return {n: ((g.double() - w).norm() / s).item() for n, g, w, s in zip(names, found, expected, sizes, strict=True)}


def check(inputs, parts, exact="reference"):
    found = errors(inputs, parts, exact)
    assert all(error < BOUNDS[inputs[0].dtype] for error in found.values()), found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_every_member(decay, update, dtype):
    """An odd length over several chunks, with an initial state and a loss on the final one."""
    check(*draw(decay, update, dtype=dtype))


@pytest.mark.parametrize(("decay", "update"), MEMBERS)
@pytest.mark.parametrize("T", [1, 17])
def test_short_sequences(T, decay, update):
    """One token, and a little more than a sub-chunk without an initial state."""
    check(*draw(decay, update, T=T, state=T == 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_wide_and_odd_heads(decay, update, dtype):
    """Head dims that are no power of two and span several column blocks."""
    check(*draw(decay, update, B=1, T=40 if is_interpreting() else 200, H=1, K=40, V=72, dtype=dtype))


@pytest.mark.skipif(is_interpreting(), reason="too large for the interpreter")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_benchmarked_heads(decay, update, dtype):
    """The head dims and block sizes that the benchmark times; the equation's own steps would take 16 GB here."""
    check(*draw(decay, update, B=8, T=300, H=16, K=128, V=128, dtype=dtype), exact="chunked")


@pytest.mark.skipif(is_interpreting(), reason="too large for the interpreter")
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_the_widest_heads(decay, update):
    """256 channels, many heads and few."""
    for B, H in ((1, 2), (4, 16)):
        check(*draw(decay, update, B=B, T=150, H=H, K=256, V=256, dtype=torch.bfloat16), exact="chunked")


@pytest.mark.skipif(is_interpreting(), reason="too long for the interpreter")
@pytest.mark.parametrize("update", ["outer", "bonus", "delta"])
def test_decay_gradients_of_long_sequences(update):
    """In bfloat16, at the start of 8192 tokens, where sums from the end have the longest way behind them."""
    inputs, parts = draw("token", update, B=1, T=8192, K=64, V=64, dtype=torch.bfloat16, strength=0.1)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    wide_parts = {name: x.detach().double().requires_grad_() for name, x in parts.items()}
    place = 5 + list(parts).index("log_decay")
    found = answer(inputs, parts, backend="triton")[place][:, :1024].double()
    expected = answer(wide, wide_parts, backend="chunked")[place][:, :1024]
    assert (found - expected).norm() < 1.25e-2 * expected.norm()


@pytest.mark.parametrize(("decay", "update"), [m for m in MEMBERS if m[0] != "none"])
def test_strong_decays(decay, update):
    """Log decays of -200 a step underflow to zero without a NaN."""
    found = errors(*draw(decay, update, strength=200.0))
    del found["log_decay"]
    assert all(error < 1e-4 for error in found.values()), found


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("decay", "update"), MEMBERS)
def test_every_output_is_written(decay, update):
    """On NaN-poisoned memory an odd length leaves no NaN behind."""
    check(*draw(decay, update, T=37))


def test_non_contiguous_inputs():
    """Heads-first storage gives the same answer."""
    inputs, parts = draw("token", "outer")
    inputs = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in inputs]
    check(inputs, parts)


@pytest.mark.parametrize(("B", "T"), [(0, 5), (2, 0)])
def test_empty_batches_and_sequences(B, T):
    """Nothing in, nothing out; the state passes through."""
    inputs, parts = draw("token", "outer", B=B, T=T)
    o, state = recur(*inputs, **parts, backend="triton")
    assert o.shape == (B, T, 2, 24)
    torch.testing.assert_close(state, parts["initial_state_BHKV"])
