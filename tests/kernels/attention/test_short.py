"""Attention of short sequences in one launch each way: values, gradients, odd lengths, poisoned memory, repeatability.

On a CUDA device: `pytest -m gpu tests/kernels/attention`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels/attention -k short`.
"""

import pytest
import torch
from tests.kernels.device import DEVICE, poison

from evo.kernels.attention import Stencil, attend, plan
from evo.kernels.attention.short import reasons, short_attention
from evo.kernels.triton_support import is_interpreting

needs_device = pytest.mark.skipif(not is_interpreting() and not torch.cuda.is_available(), reason="needs a CUDA device")
# The interpreter rounds bfloat16 wrongly, so there the operator is given float32, which `attend` never gives it.
DTYPES = [torch.float32] if is_interpreting() else [torch.float16, torch.bfloat16]
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
def test_short_at_extreme_logits(dtype: torch.dtype) -> None:
    """Logits of about 1e4 give finite gradients, and float64's values where a float32 product can tell."""
    x = draw(1, 100, 2, 2, 16, dtype).detach().round()
    x[..., :32] *= 4096.0
    x.requires_grad_()
    wanted = attend(*parts(x.detach().double(), 2, 2, 16), stencil=Stencil(), backend="reference")
    found, gradient = answer(x, torch.ones_like(wanted), (2, 2, 16))
    assert gradient.isfinite().all()
    assert (found.double() - wanted).norm() < 1e-2 * wanted.norm()


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


def test_short_says_what_it_does_not_take() -> None:
    """Long sequences, other stencils, odd head dims and float32 are refused with the reason; plain ones are not."""

    def said(T: int = 64, K: int = 64, dtype: torch.dtype = torch.bfloat16, **options) -> str:
        x = torch.empty(1, T, 2, K, dtype=dtype, device="meta")
        stencil = options.pop("stencil", Stencil())
        problem = plan(x, x, x, stencil, **options)
        return "; ".join(reason for reason in reasons(problem) if "CUDA device" not in reason)

    assert said() == ""
    assert "up to 256 tokens, found 257" in said(T=257)
    assert "equal head dims of 16, 32, 64" in said(K=48)
    assert "float16 and bfloat16, found float32" in said(dtype=torch.float32)
    assert "plain causal" in said(stencil=Stencil("window", 3))
    assert "plain causal" in said(soft_cap=5.0)
    assert "plain causal" in said(query_offset=3)
