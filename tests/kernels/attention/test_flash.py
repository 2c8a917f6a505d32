"""flash-attn-4 behind `attend`: who takes it, and on a GPU that has it, values, gradients, bytes and graph capture."""

import pytest
import torch
from tests.kernels.device import replayed

from evo.kernels.attention import Stencil, attend, flash, plan
from evo.kernels.attention.backends import TABLE
from evo.kernels.dispatch import choose

BOUNDS = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
pytestmark = pytest.mark.filterwarnings("ignore")  # the package and its compiler warn of their own deprecations


@pytest.fixture
def package():
    if flash.missing():
        pytest.skip("; ".join(flash.missing()))


def said(T=4096, S=None, K=64, dtype=torch.bfloat16, stencil=Stencil(), **options):  # noqa: B008
    """Reasons against it on a machine that has the package."""
    q, k = (torch.empty(1, length, 2, K, dtype=dtype, device="meta") for length in (T, S or T))
    problem = plan(q, k, k, stencil, **options)
    on_gpu = {"device": "cuda"}
    return "; ".join(flash.reasons(type(problem)(**{**vars(problem), **on_gpu})))


def test_long_plain_problems_are_taken_and_others_are_not(monkeypatch):
    monkeypatch.setattr(flash, "missing", list)
    assert said() == said(stencil=Stencil(causal=False)) == said(S=2048, stencil=Stencil(causal=False)) == ""
    assert "fewer than 2048" in said(T=2047)
    assert "plain" in said(S=8192)
    assert "plain" in said(stencil=Stencil("window", 64))
    assert "plain" in said(soft_cap=30.0)
    assert "head dim" in said(K=160)
    assert "head dim" in said(K=72)
    assert "float32" in said(dtype=torch.float32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine may have the package")
def test_a_machine_without_it_is_told_why():
    assert said() == "flash-attn-4 needs a Hopper or Blackwell GPU"


def draw(dtype, T, S, H=4, G=2, K=64):
    normal = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype).requires_grad_()  # noqa: E731
    return normal(1, T, H, K), normal(1, S, G, K), normal(1, S, G, K)


def answers(inputs, **options):
    o = attend(*inputs, **options)
    slopes = torch.cos(torch.arange(o.numel(), device=o.device)).reshape(o.shape).to(o.dtype)
    return [o.detach(), *torch.autograd.grad((o * slopes).sum(), inputs)]


@pytest.mark.gpu
@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize(("S", "causal"), [(2051, True), (2051, False), (2500, False)])
def test_values_and_gradients(S, causal, dtype):
    """Odd lengths, grouped heads, a head dim that is no power of two, against float64; the same bytes twice."""
    inputs = draw(dtype, 2051, S, K=96)
    options = {"stencil": Stencil(causal=causal), "backend": "flash-attn-4", "repeatable": True}
    wide = [x.detach().double().requires_grad_() for x in inputs]
    found, again = answers(inputs, **options), answers(inputs, **options)
    for got, same, wanted in zip(found, again, answers(wide, stencil=Stencil(causal=causal)), strict=True):
        assert (got.double() - wanted).norm() < BOUNDS[dtype] * wanted.norm()
        assert torch.equal(got, same)


@pytest.mark.gpu
@pytest.mark.usefixtures("package")
def test_auto_takes_it_and_a_graph_replays_it():
    inputs = draw(torch.bfloat16, 2048, 2048)
    assert choose(TABLE, plan(*inputs, Stencil())).backend.name == "flash-attn-4"
    step = lambda: answers(inputs, stencil=Stencil(), repeatable=True)  # noqa: E731
    for got, wanted in zip(*replayed(step, inputs), strict=True):
        torch.testing.assert_close(got, wanted)
