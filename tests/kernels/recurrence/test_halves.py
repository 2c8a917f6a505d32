"""Sums with decays between the tokens of a chunk, against weights written out for every pair of them."""

import pytest
import torch
from torch import Tensor

from evo.kernels.recurrence.halves import decayed_scores, decayed_sums

SIZE = 8


def normal(*shape: int, seed: int) -> Tensor:
    """Numbers in float64 that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def cumulative(decay: Tensor, rate: float) -> Tensor:
    """Sums of log decays in a chunk, each at most 0."""
    return (-rate * decay.square()).cumsum(-2)


def weights(late: Tensor, early: Tensor, strict: bool) -> Tensor:
    """exp(late[t] - early[s]) for s <= t, or s < t: (..., C, C, K)."""
    closed = ~torch.ones(SIZE, SIZE, dtype=torch.bool).tril(-1 if strict else 0)
    return (late[..., :, None, :] - early[..., None, :, :]).masked_fill(closed[..., None], -torch.inf).exp()


def compare(mine: Tensor, wanted: Tensor, inputs: list[Tensor]) -> None:
    """Values and gradients."""
    torch.testing.assert_close(mine, wanted)
    got, expected = (torch.autograd.grad(x.sin().sum(), inputs, retain_graph=True) for x in (mine, wanted))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("rate", [0.01, 1.0, 60.0])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("stacks", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_scores(stacks: tuple[int, int], strict: bool, rate: float):
    """`decayed_scores` of x and y in stacks that share their weights; strict ones read x a step earlier."""
    x, y = (normal(stack, 2, 3, SIZE, 5, seed=at) for at, stack in enumerate(stacks))
    decay = normal(1, 2, 3, SIZE, 5, seed=2)
    early = cumulative(decay, rate)
    late = torch.nn.functional.pad(early[..., :-1, :], (0, 0, 1, 0)) if strict else early
    wanted = (x[..., :, None, :] * weights(late, early, strict) * y[..., None, :, :]).sum(-1)
    compare(decayed_scores(x, y, late, early, strict), wanted, [x, y, decay])


@pytest.mark.parametrize("rate", [0.01, 1.0, 60.0])
def test_sums(rate: float):
    """`decayed_sums` reads the lower triangle of its scores alone."""
    scores, y, decay = normal(2, 3, SIZE, SIZE, seed=0), normal(2, 3, SIZE, 5, seed=1), normal(2, 3, SIZE, 5, seed=2)
    upto = cumulative(decay, rate)
    wanted = (scores[..., None] * weights(upto, upto, strict=False) * y[..., None, :, :]).sum(-2)
    compare(decayed_sums(scores, y, upto), wanted, [scores, y, decay])


@pytest.mark.filterwarnings("ignore")
def test_are_custom_operators():
    """torch.library.opcheck: schemas, fake results and the registration of gradients are right."""
    x, y, upto = (normal(1, 2, 3, SIZE, 5, seed=seed) for seed in range(3))
    given = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(decayed_scores.traced, (x, y, upto, upto, False), test_utils=given)
    scores = normal(2, 3, SIZE, SIZE, seed=3)
    torch.library.opcheck(decayed_sums.traced, (scores, y[0], upto[0]), test_utils=given)
