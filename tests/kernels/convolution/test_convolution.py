"""Short and long causal convolutions against direct sums."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from evo.kernels.convolution import long_convolution, plan, short_convolution
from evo.kernels.convolution.backends import TABLE
from evo.kernels.dispatch import BackendError, choose


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("T", [1, 3, 9])
def test_short_is_torchs_depthwise_convolution(T, taps):
    """Values equal conv1d with left padding; the last tap is the current token."""
    x, weight, bias = normal(2, T, 5), normal(5, taps, seed=1), normal(5, seed=2)
    y, _ = short_convolution(x, weight, bias_D=bias, activation="silu")
    padded = F.pad(x.transpose(1, 2), (taps - 1, 0))
    expected = F.silu(F.conv1d(padded, weight[:, None], bias, groups=5)).transpose(1, 2)
    torch.testing.assert_close(y, expected)


def test_short_in_pieces_is_the_whole():
    """The returned state continues the sequence token by token, with gradients through the state."""
    x, weight = normal(2, 9, 5), normal(5, 4, seed=1)
    whole, last = short_convolution(x, weight)
    state, pieces = None, []
    for piece in (slice(0, 2), slice(2, 3), slice(3, 9)):
        y, state = short_convolution(x[:, piece], weight, state_BWD=state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(state, last)
    assert torch.autograd.gradcheck(lambda x, w, s: short_convolution(x, w, state_BWD=s), (x, weight, normal(2, 3, 5)))


@pytest.mark.parametrize("taps", [1, 3, 6])
def test_short_keeps_packed_documents_apart(taps):
    """Values, gradients and the last state are those of each document alone; an id that returns names a new one."""
    lengths, ids = (4, 1, 2, 9, 2), (3, 5, 3, 4, 8)
    ids_BT = torch.tensor(ids).repeat_interleave(torch.tensor(lengths)).expand(2, -1)
    x, weight, bias, state = (
        normal(2, 18, 5),
        normal(5, taps, seed=1),
        normal(5, seed=2),
        normal(2, taps - 1, 5, seed=3),
    )
    packed, last = short_convolution(x, weight, bias_D=bias, activation="silu", state_BWD=state, segments_BT=ids_BT)
    pieces, before = [], state
    for piece in x.split(lengths, dim=1):
        y, after = short_convolution(piece, weight, bias_D=bias, activation="silu", state_BWD=before)
        pieces.append(y)
        before = None
    torch.testing.assert_close(packed, torch.cat(pieces, dim=1))
    torch.testing.assert_close(last, after)
    leaves = (x, weight, bias, state) if taps > 1 else (x, weight, bias)
    got, wanted = (
        torch.autograd.grad(torch.sin(y).sum() + end.square().sum(), leaves)
        for y, end in ((packed, last), (torch.cat(pieces, dim=1), after))
    )
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("taps", [1, 4, 7, 12])
@pytest.mark.parametrize("T", [1, 2, 7])
def test_long_is_the_direct_causal_sum(T, taps):
    """The FFT equals the double loop, for filters shorter and longer than the sequence."""
    x, filters, skip = normal(2, T, 3), normal(3, taps, seed=1), normal(3, seed=2)
    expected = torch.zeros_like(x)
    for t in range(T):
        for s in range(t + 1):
            if t - s < taps:
                expected[:, t] += filters[:, t - s] * x[:, s]
    torch.testing.assert_close(long_convolution(x, filters, skip_D=skip), expected + skip * x)


def test_long_gradients_are_those_of_finite_differences():
    """gradcheck passes through input, filter and skip."""
    assert torch.autograd.gradcheck(
        lambda x, f, s: long_convolution(x, f, skip_D=s), (normal(1, 5, 2), normal(2, 5, seed=1), normal(2, seed=2))
    )


def test_long_is_causal_in_float32():
    """Changing a token changes no earlier output by more than rounding."""
    x, filters = normal(1, 64, 2).detach().float(), normal(2, 64, seed=1).detach().float()
    changed = x.clone()
    changed[:, 40] += 1.0
    difference = (long_convolution(changed, filters) - long_convolution(x, filters)).abs()
    assert difference[:, :40].max() < 1e-5
    assert difference[:, 40:].max() > 0.1


def test_what_comes_late_and_is_large_reaches_no_earlier_output():
    """A trained hyena multiplies such streams; rounded by their size, a Fourier transform would carry them back."""
    x, filters = normal(1, 64, 2).detach().float(), normal(2, 64, seed=1).detach().float()
    changed = x.clone()
    changed[:, 40:] *= 1e5
    difference = (long_convolution(changed, filters) - long_convolution(x, filters)).abs()
    assert difference[:, :40].max() < 1e-6


def test_mistakes_are_refused():
    """Unknown activations and shapes that do not fit raise ValueError."""
    x = normal(2, 4, 3)
    with pytest.raises(ValueError, match="unknown activation 'relu'"):
        short_convolution(x, normal(3, 4), activation="relu")
    for shape in ((4, 3), (3, 0), (3, 1, 4)):
        with pytest.raises(ValueError, match=r"weight must be \(3, W\)"):
            short_convolution(x, normal(*shape))
    with pytest.raises(ValueError, match=r"bias_D must be \(3,\), found \(1,\)"):
        short_convolution(x, normal(3, 4), bias_D=normal(1))
    with pytest.raises(ValueError, match=r"skip_D must be \(3,\), found \(4, 3\)"):
        long_convolution(x, normal(3, 4), skip_D=normal(4, 3))
    with pytest.raises(ValueError, match="filter must be"):
        long_convolution(x, normal(2, 4))
    with pytest.raises(ValueError, match=r"segments_BT must be integers \(2, 4\)"):
        short_convolution(x, normal(3, 4), segments_BT=torch.zeros(2, 3, dtype=torch.int64))


def test_the_choice_is_printable():
    """On CUDA the Triton kernel runs a short convolution, says which it does not take, and the reference runs those."""
    pytest.importorskip("triton")
    x = torch.empty(2, 9, 16, device="meta", dtype=torch.bfloat16)
    problem = replace(plan(x, torch.empty(16, 4, device="meta"), activation="silu"), device="cuda")
    assert choose(TABLE, problem).backend.name == "triton"
    with pytest.raises(BackendError, match="up to 8 taps, found 9"):
        choose(TABLE, replace(problem, taps=9), "triton")
    choice = choose(TABLE, replace(problem, taps=9))
    assert choice.backend.name == "reference"
    assert choice.rejected == {"triton": ("up to 8 taps, found 9",)}
