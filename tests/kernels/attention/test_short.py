"""Attention of short sequences in one launch each way: values, gradients, odd lengths, poisoned memory, repeatability.

On a CUDA device: `pytest -m gpu tests/kernels/attention`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels/attention -k short`.
"""

import pytest
import torch
from tests.kernels.device import DEVICE, poison, replayed

from evo.kernels.attention import Stencil, attend, plan
from evo.kernels.attention.short import reasons, short_attention
from evo.kernels.triton_support import is_interpreting

needs_device = pytest.mark.skipif(not is_interpreting() and not torch.cuda.is_available(), reason="needs a CUDA device")
# The interpreter rounds bfloat16 wrongly; in its place the operator is given float32, which `attend` never gives it.
DTYPES = [torch.float32, torch.float16] if is_interpreting() else [torch.float16, torch.bfloat16]
BOUNDS = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
SHAPES = [(2, 130, 4, 2, 16), (1, 1, 2, 2, 32), (3, 64, 2, 2, 64)] + [(5, 255, 6, 2, 64)] * (not is_interpreting())


def on_device(test):
    """Mark a test that launches kernels."""
    return needs_device(test if is_interpreting() else pytest.mark.gpu(test))


def draw(B: int, T: int, H: int, G: int, K: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Queries, keys and values side by side, (B, T, (H + 2 G) K), drawn the same everywhere."""
    numbers = torch.randn(B, T, (H + 2 * G) * K, generator=torch.Generator().manual_seed(seed))
    return numbers.to(DEVICE, dtype).requires_grad_()


def parts(x: torch.Tensor, H: int, G: int, K: int) -> list[torch.Tensor]:
    """(B, T, heads, K) views."""
    return [part.unflatten(-1, (-1, K)) for part in x.split([H * K, G * K, G * K], -1)]


def answer(x: torch.Tensor, weights: torch.Tensor, sizes: tuple[int, int, int]) -> list[torch.Tensor]:
    """The output and the gradient of a weighted sum of it, after poisoning memory."""
    poison()
    o = short_attention(*parts(x, *sizes), sizes[2] ** -0.5)[0]
    return [o.detach(), *torch.autograd.grad((o.double() * weights).sum(), x)]


@on_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_short_values_and_gradients(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """The equation in float64, grouped heads too; the same inputs give the same bytes."""
    B, T, H, G, K = shape
    x = draw(B, T, H, G, K, dtype)
    exact = x.detach().double().requires_grad_()
    wanted = attend(*parts(exact, H, G, K), stencil=Stencil(), backend="reference")
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE).double()
    expected = [wanted.detach(), *torch.autograd.grad((wanted * weights).sum(), exact)]
    found, again = answer(x, weights, (H, G, K)), answer(x, weights, (H, G, K))
    for got, same, want in zip(found, again, expected, strict=True):
        assert torch.equal(got, same)
        assert (got.double() - want).norm() < BOUNDS[dtype] * want.norm()


@on_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_short_at_extreme_logits(sign: int, dtype: torch.dtype) -> None:
    """Logits of up to 2.7e4, all of one sign: values and gradients of float64.

    Small integers, which every dtype holds and multiplies exactly, so that probabilities are those of exact ties. The
    backward makes them from a log-sum-exp whose float32 neighbours are up to 4e-3 apart, and can be no closer.
    """
    sizes = 2, 2, 16
    x = draw(1, 100, *sizes, dtype).detach().round()
    x[..., :64] = x[..., :64].abs()
    x[..., :32] *= sign * 4096.0
    x.requires_grad_()
    exact = x.detach().double().requires_grad_()
    wanted = attend(*parts(exact, *sizes), stencil=Stencil(), backend="reference")
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1)).round().to(DEVICE).double()
    (expected,) = torch.autograd.grad((wanted * weights).sum(), exact)
    found, gradient = answer(x, weights, sizes)
    assert (found.double() - wanted).norm() < BOUNDS[dtype] * wanted.norm()
    for got, want in zip(parts(gradient, *sizes), parts(expected, *sizes), strict=True):
        assert (got.double() - want).norm() < 1e-2 * want.norm()


@on_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_short_reads_views_by_their_strides(dtype: torch.dtype) -> None:
    """Heads-first storage, columns that are no multiple of 16 apart, and dims that are not dense: the same bytes."""
    q, k, v = (part.detach() for part in parts(draw(1, 70, 2, 1, 16, dtype), 2, 1, 16))
    apart = torch.cat([k, k[..., :1]], -1)[..., :16]
    views = q.transpose(1, 2).contiguous().transpose(1, 2), apart, v.transpose(1, 3).contiguous().transpose(1, 3)

    def run(*tensors: torch.Tensor) -> list[torch.Tensor]:
        leaves = [x.requires_grad_() for x in tensors]
        o = short_attention(*leaves, 0.25)[0]
        return [
            o.detach(),
            *torch.autograd.grad(o, leaves, torch.cos(torch.arange(16, device=DEVICE)).to(o).expand_as(o)),
        ]

    for got, wanted in zip(run(*views), run(q, k, v), strict=True):
        assert torch.equal(got, wanted)


@on_device
def test_gradients_of_short_attention_lie_side_by_side() -> None:
    """dq, dk and dv are one tensor's columns, so that a product that made all three need not gather them."""
    q, k, v = (part.detach().requires_grad_() for part in parts(draw(1, 70, 4, 2, 16, DTYPES[0]), 4, 2, 16))
    dq, dk, dv = torch.autograd.grad(short_attention(q, k, v, 0.25)[0].sum(), [q, k, v])
    size = dq.element_size()
    assert dq.stride(1) == dk.stride(1) == dv.stride(1) == 8 * 16
    assert [x.data_ptr() - dq.data_ptr() for x in (dk, dv)] == [4 * 16 * size, 6 * 16 * size]


@on_device
def test_short_operators_are_well_formed() -> None:
    """torch's opcheck: schemas, fake implementations, registered autograd."""
    q, k, v = (part.detach().requires_grad_() for part in parts(draw(1, 33, 2, 1, 16, DTYPES[0]), 2, 1, 16))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(short_attention.traced, (q, k, v, 0.25), test_utils=checks)


def short_inputs() -> list[torch.Tensor]:
    """q, k and v in float16, which `attend` gives to the kernel on a GPU as under the interpreter."""
    return [part.detach().requires_grad_() for part in parts(draw(1, 70, 2, 1, 16, torch.float16), 2, 1, 16)]


def by_name(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Through the dispatch, as a block calls it."""
    return attend(q, k, v, stencil=Stencil(), backend="short")


@on_device
@pytest.mark.filterwarnings("ignore")
def test_compile_traces_short_attention_without_a_break() -> None:
    """torch.compile takes the whole call, dispatch included, into one graph with the same values and gradients."""
    inputs = short_inputs()
    o, again = by_name(*inputs), torch.compile(by_name, backend="aot_eager", fullgraph=True)(*inputs)
    torch.testing.assert_close(again, o)
    expected = torch.autograd.grad(o.square().sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad(again.square().sum(), inputs), expected)


@on_device
@pytest.mark.skipif(is_interpreting(), reason="graphs need a CUDA device")
def test_a_captured_step_of_short_attention_replays() -> None:
    """Forward and backward inside a CUDA graph give the eager result on new data."""
    inputs = short_inputs()

    def step() -> list[torch.Tensor]:
        o = by_name(*inputs)
        return [o.detach(), *torch.autograd.grad(o.square().sum(), inputs)]

    for got, wanted in zip(*replayed(step, inputs), strict=True):
        torch.testing.assert_close(got, wanted)


def test_short_says_what_it_does_not_take() -> None:
    """Long sequences, other stencils, odd dims, float32 and nothing are refused with the reason; plain ones are not."""
    pytest.importorskip("triton", reason="its absence is a reason of its own")

    def said(B: int = 1, T: int = 64, K: int = 64, dtype: torch.dtype = torch.bfloat16, **options) -> str:
        x = torch.empty(B, T, 2, K, dtype=dtype, device="meta")
        stencil = options.pop("stencil", Stencil())
        problem = plan(x, x, x, stencil, **options)
        return "; ".join(reason for reason in reasons(problem) if "CUDA device" not in reason)

    assert said() == ""
    assert "nothing to attend to" in said(B=0)
    assert "nothing to attend to" in said(T=0)
    assert "up to 256 tokens, found 257" in said(T=257)
    assert "equal head dims of 16, 32, 64" in said(K=48)
    assert "float16 and bfloat16, found float32" in said(dtype=torch.float32)
    assert "plain causal" in said(stencil=Stencil("window", 3))
    assert "plain causal" in said(soft_cap=5.0)
    assert "plain causal" in said(query_offset=3)
