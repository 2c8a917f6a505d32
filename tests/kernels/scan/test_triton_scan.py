"""The Triton scan against the float64 definition: states and all gradients.

On a CUDA device: `pytest -m gpu tests/kernels`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels -k triton`.
"""

from __future__ import annotations

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS, replayed
from torch import Tensor

from evo.kernels.scan import reference, scan
from evo.kernels.triton_support import is_interpreting

pytestmark = RUNS_KERNELS

BOUND = 1e-5
LONG = 21 if is_interpreting() else 2049


def draw(B: int = 2, T: int = LONG, X: int = 70) -> list[Tensor]:
    """Decays of (-1, 1), inputs and a state before: float32 leaves on the device."""
    stream = torch.Generator().manual_seed(0)
    decay = torch.rand(B, T, X, generator=stream) * 2 - 1
    inputs, before = torch.randn(B, T, X, generator=stream), torch.randn(B, X, generator=stream)
    return [x.to(DEVICE).requires_grad_() for x in (decay, inputs, before)]


def answer(states: Tensor, last: Tensor, given: list[Tensor]) -> list[Tensor]:
    """States, and gradients of a loss that weighs each of them and the last."""
    slopes = torch.cos(torch.arange(states.numel(), device=DEVICE) ** 2).reshape(states.shape).to(states.dtype)
    return [states.detach(), *torch.autograd.grad((states * slopes).sum() + last.sum(), given)]


def check(given: list[Tensor]) -> None:
    """Relative Frobenius errors within the bound."""
    wide = [x.detach().double().requires_grad_() for x in given]
    states = reference.states(wide[0], wide[1], wide[2])
    found = answer(*scan(*given, backend="triton"), given)
    for got, wanted in zip(found, answer(states, states[:, -1], wide), strict=True):
        assert got.dtype == torch.float32
        assert (got.double() - wanted).norm() <= BOUND * wanted.norm()


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("X", [1, 64, 70])
@pytest.mark.parametrize("T", [1, 2, 8, 9, LONG])
def test_odd_sizes(T: int, X: int):
    """One token, steps that are full and cut short, channels that fill no program, on poisoned memory."""
    check(draw(T=T, X=X))


@pytest.mark.usefixtures("poisoned")
def test_rows_that_are_not_dense():
    """Every other channel of something wider, and a gradient that is transposed."""
    given = draw(T=9, X=8)
    doubled = [x.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_() for x in given]
    states, _ = scan(*doubled, backend="triton")
    direction = torch.randn(2, 8, 9, device=DEVICE).transpose(1, 2)
    got = torch.autograd.grad(states, doubled, direction)
    wanted = torch.autograd.grad(scan(*given, backend="triton")[0], given, direction.contiguous())
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one, other)


def test_documents_begin_at_zero():
    """What stands in another document reaches neither a state nor a gradient."""
    decay, inputs, before = draw(B=1, T=11, X=5)
    segments = torch.tensor([[0] * 4 + [1] * 7], device=DEVICE)
    states, _ = scan(decay, inputs, before, segments_BT=segments, backend="triton")
    torch.testing.assert_close(states[:, 4:], scan(decay[:, 4:], inputs[:, 4:], backend="triton")[0])
    earlier, start = torch.autograd.grad(states[:, 4:].sum(), (inputs, before))
    assert not earlier[:, :4].any()
    assert not start.any()


@pytest.mark.parametrize("shape", [(2, 0, 5), (0, 3, 5), (2, 3, 0)])
def test_nothing_in_nothing_out(shape: tuple[int, int, int]):
    """Empty batches, sequences and widths; the state passes through, and so does its gradient."""
    decay, inputs, before = draw(*shape)
    states, last = scan(decay, inputs, before, backend="triton")
    assert states.shape == shape
    (slope,) = torch.autograd.grad(states.sum() + last.sum(), before)
    assert torch.equal(slope, torch.ones_like(slope) if shape[1] == 0 else torch.zeros_like(slope))


def test_members_of_a_population():
    """vmap over members is one launch, and equals a call a member, gradients too."""
    decay, inputs = (torch.stack([x.detach(), 0.5 * x.detach()]) for x in draw(T=9, X=3)[:2])

    def loss(decay: Tensor, inputs: Tensor) -> Tensor:
        return scan(decay, inputs, backend="triton")[0].square().sum()

    together = torch.func.vmap(torch.func.grad(loss, (0, 1)))(decay, inputs)
    for member in range(2):
        alone = torch.func.grad(loss, (0, 1))(decay[member], inputs[member])
        torch.testing.assert_close(tuple(part[member] for part in together), alone)


@pytest.mark.filterwarnings("ignore")
def test_opcheck_passes():
    """Schema and fake implementation of the gradients are right."""
    from evo.kernels.scan.triton.operator import scan_gradients

    decay, inputs, before = (x.detach() for x in draw(T=9, X=5))
    states, _ = scan(decay, inputs, before, backend="triton")
    given = (torch.randn_like(states), decay, before, states)
    torch.library.opcheck(scan_gradients.traced, given, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.filterwarnings("ignore")
def test_compile_traces_the_call_without_a_break():
    """torch.compile takes the call into one graph with the same values and gradients."""
    given = draw(T=9, X=5)
    run = lambda *given: scan(*given, backend="triton")[0]  # noqa: E731
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*given), run(*given))
    got, wanted = (torch.autograd.grad(call(*given).square().sum(), given) for call in (compiled, run))
    torch.testing.assert_close(got, wanted)


@pytest.mark.skipif(is_interpreting(), reason="graphs need a CUDA device")
def test_a_captured_step_replays():
    """Forward and backward inside a CUDA graph give the eager result on new data."""
    given = draw(T=100)
    step = lambda: answer(*scan(*given, backend="triton"), given)  # noqa: E731
    for got, wanted in zip(*replayed(step, given), strict=True):
        torch.testing.assert_close(got, wanted)
