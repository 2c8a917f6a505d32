"""The Triton short convolution against the float64 definition: values, states and gradients.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

from dataclasses import replace

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS, replayed

from evo.kernels.convolution import short_convolution
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS

BOUNDS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2.5e-2}
DTYPES = [torch.float32] if is_interpreting() else list(BOUNDS)
# The interpreter's bfloat16 is wrong, its float16 is not.
EVERY_DTYPE = [torch.float32, torch.float16] if is_interpreting() else DTYPES
WIDTHS = (1, 4, 8) if is_interpreting() else range(1, 9)
BATCH, TIME = (1, 21) if is_interpreting() else (2, 333)
"""Several strips of each kernel, the last ones cut short."""


def draw(T=TIME, D=72, W=4, bias=True, state=True, segments=False, dtype=torch.float32, B=BATCH):
    """x in `dtype`, float32 taps, and the parts that are wanted, all leaves on the device."""
    stream = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=stream)  # noqa: E731
    ids_BT = (torch.rand(B, T, generator=stream) < 0.2).cumsum(1)
    leaf = lambda x, kind=torch.float32: x.to(DEVICE, kind).requires_grad_()  # noqa: E731
    parts = {"bias_D": leaf(normal(D))} if bias else {}
    if state:
        parts["state_BWD"] = leaf(normal(B, W - 1, D), dtype)
    if segments:
        parts["segments_BT"] = ids_BT.to(DEVICE)
    return leaf(normal(B, T, D), dtype), leaf(normal(D, W)), parts


def weighed(z):
    """A loss whose slopes every dtype holds exactly."""
    slopes = torch.cos(torch.arange(z.numel(), device=z.device) ** 2).to(torch.bfloat16)
    return (z * slopes.reshape(z.shape).to(z.dtype)).sum()


def answer(x, weight, parts, **options):
    """Outputs, new state, and gradients of a loss that weighs both."""
    y, state = short_convolution(x, weight, **parts, **options)
    leaves = [x, weight, *(z for z in parts.values() if z.requires_grad)]
    return [y.detach(), state.detach(), *torch.autograd.grad(weighed(y) + weighed(state), leaves)]


def check(x, weight, parts, **options):
    """Relative Frobenius errors within the bound of the dtype."""
    wide = lambda z: z.detach().double().requires_grad_() if z.is_floating_point() else z  # noqa: E731
    expected = answer(wide(x), wide(weight), {n: wide(z) for n, z in parts.items()}, backend="reference", **options)
    found = answer(x, weight, parts, backend="triton", **options)
    assert found[0].dtype == found[1].dtype == x.dtype
    errors = [((g.double() - w).norm() / w.norm().clamp(min=1e-9)).item() for g, w in zip(found, expected, strict=True)]
    assert all(error < BOUNDS[x.dtype] for error in errors), errors


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("W", WIDTHS)
def test_every_width(W, activation, dtype):
    """One to eight taps over several tiles, with bias and state, on poisoned memory."""
    check(*draw(W=W, dtype=dtype, state=W > 1, B=2), activation=activation)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("D", "dtype"), [(1, torch.float32), (200, torch.float32), *((37, dtype) for dtype in DTYPES)])
@pytest.mark.parametrize("T", [1, 2, 9 if is_interpreting() else 65])
def test_odd_sizes(T, D, dtype):
    """One token, fewer tokens than taps, widths that fill no tile; without bias and state too."""
    check(*draw(T=T, D=D, dtype=dtype, B=1, segments=True), activation="silu")
    check(*draw(T=T, D=D, dtype=dtype, B=1, bias=False, state=False), activation="silu")


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("W", [2, 5])
def test_documents(W, state):
    """Taps stop at the borders of short documents, forward and back."""
    check(*draw(W=W, state=state, segments=True, B=2 if W == 2 else BATCH), activation="silu")


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("segments", [False, True])
def test_long_strips(monkeypatch, segments):
    """Strips of many steps, as large problems have them, the last one cut short."""
    from evo.kernels.convolution.triton import operator

    tokens, T = (24, 29) if is_interpreting() else (48, TIME)
    for name in ("FORWARD", "BACK"):
        monkeypatch.setattr(operator, name, replace(getattr(operator, name), shortest=tokens, longest=tokens))
    check(*draw(T, segments=segments), activation="silu")


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_strided_inputs(dtype):
    """A slice of a wider projection, and outputs whose gradient is transposed, give the same answer."""
    T = 7 if is_interpreting() else 40
    x, weight, parts = draw(T, D=32, B=2, dtype=dtype)
    projection = torch.cat([x.detach(), x.detach()], dim=-1).requires_grad_()
    y, _ = short_convolution(projection[..., 32:], weight, **parts, backend="triton")
    expected, _ = short_convolution(x, weight, **parts, backend="triton")
    assert torch.equal(y, expected)
    direction = torch.randn(2, 32, T, device=DEVICE).to(dtype).transpose(1, 2)
    (got,) = torch.autograd.grad(y, projection, direction)
    (wanted,) = torch.autograd.grad(expected, x, direction.contiguous())
    assert torch.equal(got[..., 32:], wanted)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_extreme_sums(dtype):
    """Where sums of taps reach +-1e4 the activation saturates without a NaN, forward and back."""
    x, weight, parts = draw(T=21, D=16, dtype=dtype)
    check((x.detach() * 4096.0).requires_grad_(), weight, parts, activation="silu")


def test_token_by_token_is_the_whole():
    """The returned state continues the sequence in pieces of any length."""
    x, weight, parts = draw(T=20, D=16)
    whole, last = short_convolution(x, weight, **parts, activation="silu", backend="triton")
    state, pieces = parts["state_BWD"], []
    for piece in x.split((1, 1, 2, 11, 5), dim=1):
        y, state = short_convolution(
            piece, weight, bias_D=parts["bias_D"], state_BWD=state, activation="silu", backend="triton"
        )
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    assert torch.equal(state, last)


@pytest.mark.parametrize(("B", "T"), [(0, 5), (2, 0)])
def test_empty_batches_and_sequences(B, T):
    """Nothing in, nothing out, and no gradient; the state passes through."""
    x, weight, parts = draw(B=B, T=T, D=16)
    y, state = short_convolution(x, weight, **parts, backend="triton")
    assert y.shape == (B, T, 16)
    assert torch.equal(state, parts["state_BWD"])
    dweight, dstate = torch.autograd.grad(y.sum() + state.sum(), (weight, parts["state_BWD"]))
    assert torch.equal(dweight, torch.zeros_like(dweight))
    assert torch.equal(dstate, torch.ones_like(dstate))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bytes(dtype):
    """No atomics: the gradients of the taps repeat bit by bit."""
    x, weight, parts = draw(segments=True, dtype=dtype)
    first, second = (answer(x, weight, parts, activation="silu", backend="triton") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("state", [False, True])
def test_opcheck_passes(state):
    """Schema, fake implementations and autograd registration are right."""
    from evo.kernels.convolution.triton.operator import short_convolution, short_convolution_backward

    x, weight, parts = draw(T=9, D=16, state=state)
    numbers = torch.zeros(BATCH, 9, dtype=torch.int32, device=DEVICE)
    rest = (weight, parts["bias_D"], parts.get("state_BWD"), numbers, True)
    torch.library.opcheck(
        short_convolution.traced,
        (x, *rest),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    given = [z.detach() if isinstance(z, torch.Tensor) else z for z in (x, None, x, *rest)]
    torch.library.opcheck(short_convolution_backward.traced, given, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.filterwarnings("ignore")
def test_compile_traces_the_call_without_a_break():
    """torch.compile takes the whole call, dispatch included, into one graph with the same values and gradients."""
    x, weight, parts = draw(T=9 if is_interpreting() else 20, D=16)
    run = lambda x: short_convolution(x, weight, **parts, activation="silu", backend="triton")[0]  # noqa: E731
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), run(x))
    got, wanted = (torch.autograd.grad(call(x).square().sum(), (x, weight)) for call in (compiled, run))
    torch.testing.assert_close(got, wanted)


@pytest.mark.skipif(is_interpreting(), reason="graphs need a CUDA device")
def test_a_captured_step_replays():
    """Forward and backward inside a CUDA graph give the eager result on new data."""
    x, weight, parts = draw(T=100)
    step = lambda: answer(x, weight, parts, activation="silu", backend="triton")  # noqa: E731
    for got, wanted in zip(*replayed(step, [x]), strict=True):
        torch.testing.assert_close(got, wanted)
