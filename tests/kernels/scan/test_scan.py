"""Scans: every backend computes the definition, in values and gradients, in pieces, by document, for members."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from evo.kernels.dispatch import choose
from evo.kernels.scan import doubling, reference, scan
from evo.kernels.scan.scan import TABLE, ScanCall
from evo.kernels.triton_support import IS_INSTALLED


def drawn(*shape: int, seed: int) -> Tensor:
    """Normal, float64, with a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def problem(time: int, channels: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Decays, inputs and a state before."""
    return drawn(2, time, channels, seed=0), drawn(2, time, channels, seed=1), drawn(2, channels, seed=2)


@pytest.mark.parametrize(
    ("backend", "channels"), [("doubling", 3), ("reference", 3), ("sequential", 513), ("auto", 513)]
)
@pytest.mark.parametrize("time", [1, 2, 7, 33])
def test_backends_compute_the_definition(backend: str, channels: int, time: int):
    """Values, the last state, and all gradients are those of autograd through the loop over tokens."""
    given = problem(time, channels)
    wanted = reference.states(*given)
    states, last = scan(*given, backend=backend)
    torch.testing.assert_close(states, wanted)
    assert torch.equal(last, states[:, -1])
    cotangent = drawn(*wanted.shape, seed=3).detach()
    got = torch.autograd.grad((states * cotangent).sum() + last.sum(), given)
    expected = torch.autograd.grad((wanted * cotangent).sum() + wanted[:, -1].sum(), given)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("device", "dtype", "channels", "name"),
    [
        ("cpu", "float32", 512, "sequential"),
        ("cpu", "float32", 511, "doubling"),
        pytest.param("cuda", "float32", 512, "triton", marks=pytest.mark.skipif(not IS_INSTALLED, reason="no triton")),
        ("cuda", "float64", 512, "doubling"),
    ],
)
def test_wide_scans_go_through_memory_once(device: str, dtype: str, channels: int, name: str):
    """Passes over the sequence copy all of it again and again."""
    call = ScanCall(device=device, dtype=dtype, batch=2, time=8, channels=channels)
    assert choose(TABLE, call).backend.name == name


def test_long_sequences_go_in_runs(monkeypatch: pytest.MonkeyPatch):
    """A sequence of several runs is one sequence."""
    monkeypatch.setattr(doubling, "RUN", 4)
    given = problem(11)
    torch.testing.assert_close(doubling.states(*given), reference.states(*given))


def test_pieces_equal_the_whole():
    """Going on from a state gives what one scan gives; no tokens leave the state as it was."""
    decay, inputs, before = problem(9)
    whole, last = scan(decay, inputs, before)
    first, middle = scan(decay[:, :4], inputs[:, :4], before)
    rest, end = scan(decay[:, 4:], inputs[:, 4:], middle)
    torch.testing.assert_close(torch.cat((first, rest), 1), whole)
    torch.testing.assert_close(end, last)
    nothing, same = scan(decay[:, :0], inputs[:, :0], before)
    assert nothing.shape == (2, 0, 3)
    assert torch.equal(same, before)


def test_documents_begin_at_zero():
    """A change of id forgets; the first document goes on from the state before."""
    decay, inputs, before = problem(9)
    segments = torch.tensor([[0] * 4 + [1] * 5, [2] * 9])
    states, _ = scan(decay, inputs, before, segments_BT=segments)
    torch.testing.assert_close(states[0, 4:], scan(decay[:1, 4:], inputs[:1, 4:])[0][0])
    torch.testing.assert_close(states[0, :4], scan(decay[:1, :4], inputs[:1, :4], before[:1])[0][0])
    torch.testing.assert_close(states[1], scan(decay[1:], inputs[1:], before[1:])[0][0])


def test_members_of_a_population():
    """vmap over members equals a call a member, gradients too."""
    decay, inputs = drawn(2, 2, 9, 3, seed=0), drawn(2, 2, 9, 3, seed=1)

    def loss(decay: Tensor, inputs: Tensor) -> Tensor:
        return scan(decay, inputs)[0].square().sum()

    together = torch.func.vmap(torch.func.grad(loss, (0, 1)))(decay, inputs)
    for member in range(2):
        alone = torch.func.grad(loss, (0, 1))(decay[member], inputs[member])
        torch.testing.assert_close(tuple(part[member] for part in together), alone)


def test_half_precision_is_scanned_in_float32():
    """States are float32 for half inputs."""
    given = [t.detach().bfloat16() for t in problem(5)]
    assert scan(*given)[0].dtype == torch.float32


def test_shapes_that_do_not_fit_are_refused():
    """Decays are given for every input."""
    with pytest.raises(ValueError, match="must both be"):
        scan(torch.zeros(2, 5, 1), torch.zeros(2, 5, 3))
