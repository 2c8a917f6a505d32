"""What every fused function promises alike: empty batches, views, the same bytes, torch.compile, CUDA graphs.

On a CUDA device: `pytest -m gpu tests/kernels/fused`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels/fused`.
"""

import importlib

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS, replayed

from evo.kernels.fused import (
    ACTS,
    Permutation,
    add_norm,
    cross_entropy,
    embed,
    gated,
    gather_sequences,
    linear_cross_entropy,
    lru_terms,
    norm,
    permute,
    rotate,
    rotate_qkv,
    unpermute,
)
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS

DTYPES = [torch.float32, torch.float16] + ([] if is_interpreting() else [torch.bfloat16])
TRITON = {"backend": "triton"}


def numbers(count: int, below: int) -> torch.Tensor:
    """Tokens, or targets."""
    return torch.arange(count, device=DEVICE) * 17 % below


def turns() -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of 5 positions and 6 pairs."""
    angles = torch.outer(torch.arange(5, device=DEVICE), 1.0 / torch.arange(1, 7, device=DEVICE))
    return angles.cos(), angles.sin()


def thirds(tokens: int) -> Permutation:
    """Three rows of each token in some order."""
    return Permutation.of(torch.arange(3 * tokens, device=DEVICE).view(3, -1).t().flatten())


# By name, the shapes of the tensors at B batches, and the function of them.
FUNCTIONS = {
    "norm": (lambda B: [(B, 5, 24), (24,)], lambda x, g: norm(x, g, None, 1e-6, center=False, **TRITON)),
    "add_norm": (
        lambda B: [(B, 5, 24), (B, 5, 24), (24,), (24,)],
        lambda x, y, g, b: add_norm(x, y, g, b, 1e-6, center=True, **TRITON),
    ),
    "gated": (lambda B: [(B, 5, 24), (B, 5, 24)], lambda g, u: gated(g, u, "silu", **TRITON)),
    "lru_terms": (
        lambda B: [(B, 5, 24), (B, 5, 2, 12), (B, 5, 2, 12), (24,), (24,), (24,)],
        lambda u, i, r, *vectors: lru_terms(
            u, i.movedim(-2, 0), r.movedim(-2, 0), *vectors, numbers(5, 2).bool().expand(len(u), 5), **TRITON
        ),
    ),
    "rotate": (lambda B: [(B, 5, 2, 16), (B, 5, 1, 16)], lambda q, k: rotate(q, k, *turns())),
    "rotate_qkv": (
        lambda B: [(B, 5, 2, 16), (B, 5, 1, 16), (B, 5, 1, 8)],
        lambda q, k, v: rotate_qkv(q, k, v, *turns()),
    ),
    "embed": (lambda B: [(B, 5, 24), (7, 24)], lambda x, w: x + embed(numbers(len(x) * 5, 7).view(-1, 5), w, **TRITON)),
    "permute": (
        lambda B: [(B, 24), (B, 3)],
        lambda x, shares: permute(x, thirds(len(x)), shares, **TRITON),
    ),
    "unpermute": (
        lambda B: [(3 * B, 24), (B, 3)],
        lambda y, shares: unpermute(y, thirds(len(shares)), shares, **TRITON),
    ),
    "cross_entropy": (lambda B: [(B, 24)], lambda x: cross_entropy(x, numbers(len(x), 24), 3.0, **TRITON)),
    "linear_cross_entropy": (
        lambda B: [(B, 40), (24, 40)],
        lambda h, w: linear_cross_entropy(h, w, numbers(len(h), 24), **TRITON),
    ),
    "weighted cross_entropy": (
        lambda B: [(B, 24)],
        lambda x: cross_entropy(x, numbers(len(x), 24), weights_N=1.0 + numbers(len(x), 5), **TRITON),
    ),
    "linear_cross_entropy in slices": (
        lambda B: [(B, 40), (300, 40)],
        lambda h, w: linear_cross_entropy(h, w, numbers(len(h), 300), **TRITON),
    ),
}
# Products of strided halves are cuBLAS's to round.
VIEWED = [(n, dtype) for n in FUNCTIONS for dtype in DTYPES if dtype == torch.float32 or not n.startswith("linear")]


@pytest.fixture(autouse=True)
def four_rows_a_slice(monkeypatch):
    """Of a vocabulary of 300; all logits of a vocabulary of 24 are one slice."""
    monkeypatch.setattr(importlib.import_module("evo.kernels.fused.cross_entropy"), "SLICE", 4 * 300)


def draw(name: str, B: int = 11, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """The tensors of a function."""
    stream = torch.Generator().manual_seed(0)
    shapes = FUNCTIONS[name][0](B)
    return [torch.randn(shape, generator=stream).to(DEVICE, dtype).requires_grad_() for shape in shapes]


def outputs(name: str, tensors: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Always a tuple."""
    found = FUNCTIONS[name][1](*tensors)
    return found if isinstance(found, tuple) else (found,)


def answer(name: str, tensors: list[torch.Tensor], store=torch.clone, run=outputs) -> list[torch.Tensor]:
    """Outputs and gradients, of what flows back as `store` lays it out."""
    found = run(name, tensors)
    back = [store(torch.cos(torch.arange(o.numel(), device=DEVICE)).view(o.shape).to(o.dtype)) for o in found]
    return [*(o.detach() for o in found), *torch.autograd.grad(found, tensors, back)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_empty_batches(name):
    """No batch gives empty outputs and gradients, zeros to what batches share.

    A mean of nothing is NaN, as torch's; a weighted one is 0.
    """
    tensors = draw(name, B=0)
    found, one = outputs(name, tensors), outputs(name, draw(name, B=1))
    for got, like in zip(found, one, strict=True):
        assert got.dtype == like.dtype
        if like.ndim == 0:
            assert got == 0 if name.startswith("weighted") else got.isnan()
        else:
            assert got.shape == (0, *like.shape[1:])
    for x, gradient in zip(tensors, torch.autograd.grad([o.sum() for o in found], tensors), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def every_other(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with a gap after each."""
    return torch.stack([x, x + 1], -1)[..., 0]


def turned(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with the first dim innermost."""
    return x.movedim(0, -1).contiguous().movedim(-1, 0) if x.ndim else x


@pytest.mark.parametrize("store", [every_other, turned], ids=["every other", "first dim innermost"])
@pytest.mark.parametrize(("name", "dtype"), VIEWED, ids=str)
def test_views(name, dtype, store):
    """Inputs and incoming gradients that are not dense give what dense ones give."""
    dense = draw(name, dtype=dtype)
    views = [store(x.detach()).requires_grad_() for x in dense]
    assert not all(x.is_contiguous() for x in views)
    torch.testing.assert_close(answer(name, views, store), answer(name, dense))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_inputs_give_the_same_bytes(name):
    """Values and gradients, over more rows than one program takes."""
    tensors = draw(name, B=50)
    first, second = answer(name, tensors), answer(name, tensors)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_compile_traces_the_call(name):
    """torch.compile gives the same values and gradients; operators go into one graph, choice of backend included."""
    tensors = draw(name)
    is_whole = name != "rotate_qkv"  # an autograd function, which not every torch traces
    compiled = torch.compile(FUNCTIONS[name][1], backend="aot_eager", fullgraph=is_whole)

    def run(name, tensors):
        found = compiled(*tensors)
        return found if isinstance(found, tuple) else (found,)

    torch.testing.assert_close(answer(name, tensors, run=run), answer(name, tensors))


@pytest.mark.skipif(is_interpreting(), reason="graphs need a CUDA device")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_captured_step_replays(name):
    """Forward and backward inside a CUDA graph give the eager result on new data."""
    tensors = draw(name)
    for got, wanted in zip(*replayed(lambda: answer(name, tensors), tensors), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("act", ACTS)
def test_activations_of_extreme_gates(act, dtype):
    """Gates of +-1e4 (of +-100 where the square would not fit) saturate as the plain form does, gradients too."""
    size = 100.0 if (act, dtype) == ("relu2", torch.float16) else 1e4
    gate = (size * torch.tensor([-1.0, -0.01, 0.0, 0.01, 1.0], device=DEVICE)).to(dtype)
    up = torch.tensor([1.0, -2.0, 1.0, 0.5, -1.0], device=DEVICE, dtype=dtype)

    def run(dtype, backend):
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in (gate, up)]
        o = gated(*leaves, act, backend=backend)
        return [o.detach(), *torch.autograd.grad(o.sum(), leaves)]

    wanted = [x.to(dtype) for x in run(torch.float64, "reference")]
    torch.testing.assert_close(run(dtype, "triton"), wanted)


def text_and_starts() -> tuple[torch.Tensor, ...]:
    """Some bytes, the starts of two batches of three sequences, and which one is next."""
    text = torch.arange(2000, device=DEVICE).remainder(251).to(torch.uint8)
    return text, torch.tensor([[0, 1, 2], [5, 1689, 77]], device=DEVICE), torch.tensor([1], device=DEVICE)


@pytest.mark.filterwarnings("ignore")
def test_gathering_is_traced():
    """torch's opcheck and torch.compile; no starts, no sequences."""
    text, starts, row = text_and_starts()
    torch.library.opcheck(
        torch.ops.evo.gather_sequences.default, (text, starts, row, 20), test_utils=("test_schema", "test_faketensor")
    )
    compiled = torch.compile(gather_sequences, backend="aot_eager", fullgraph=True)
    for got, wanted in zip(compiled(text, starts, row, 20), gather_sequences(text, starts, row, 20), strict=True):
        assert torch.equal(got, wanted)
    assert [x.shape for x in gather_sequences(text, starts[:, :0], row, 20, **TRITON)] == [(0, 20), (0, 20)]


@pytest.mark.skipif(is_interpreting(), reason="graphs need a CUDA device")
def test_captured_sequences_follow_the_row():
    """A replayed graph reads the row that the device names then."""
    text, starts, row = text_and_starts()
    gather_sequences(text, starts, row, 310)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gather_sequences(text, starts, row, 310)
    row.zero_()
    graph.replay()
    for got, wanted in zip(captured, gather_sequences(text, starts, row, 310), strict=True):
        assert torch.equal(got, wanted)
