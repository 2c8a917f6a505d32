"""Grouped products: every backend computes the definition, in values and gradients, for members of a population too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from evo.kernels.dispatch import BackendError, choose
from evo.kernels.fused.project import project
from evo.kernels.grouped import Groups, grouped_product, plan
from evo.kernels.grouped.backends import TABLE

COUNTS = torch.tensor([3, 0, 5, 1])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal, float64, with a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def by_hand(x_NI: Tensor, weight_EOI: Tensor) -> Tensor:
    """Each row by the matrix of its entry."""
    entries = torch.repeat_interleave(torch.arange(len(COUNTS)), COUNTS)
    return torch.einsum("ni,noi->no", x_NI, weight_EOI[entries])


@pytest.mark.parametrize("backend", ["reference", "all", "auto"])
def test_rows_meet_their_entry(backend: str):
    """Values and both gradients equal those of one product a row; an entry without rows has a gradient of zero."""
    x, weight, cotangent = drawn(9, 5), drawn(4, 7, 5, seed=1), drawn(9, 7, seed=2).detach()
    y, wanted = grouped_product(x, weight, Groups(COUNTS, backend)), by_hand(x, weight)
    torch.testing.assert_close(y, wanted)
    got = torch.autograd.grad((y * cotangent).sum(), (x, weight))
    torch.testing.assert_close(got, torch.autograd.grad((wanted * cotangent).sum(), (x, weight)))
    assert (got[1][1] == 0).all()


def test_the_entries_of_rows():
    """Each row's entry, with none for an entry without rows."""
    assert Groups(COUNTS).entries(9).tolist() == [0, 0, 0, 2, 2, 2, 2, 2, 3]


def test_biases_are_those_of_the_entry():
    """`project` adds the bias of the entry that a row meets."""
    x, weight, bias = drawn(9, 5), drawn(4, 7, 5, seed=1), drawn(4, 7, seed=3)
    y = project(x, weight, bias, Groups(COUNTS))
    torch.testing.assert_close(y - by_hand(x, weight), torch.repeat_interleave(bias, COUNTS, 0))


@pytest.mark.parametrize("is_shared", [False, True])
def test_members_of_a_population(is_shared: bool):
    """vmap over members with rows, counts and stacks of their own, or one stack for all, equals a call a member."""
    xs, weights = drawn(2, 9, 5), drawn(2, 4, 7, 5, seed=1)
    counts = torch.stack((COUNTS, COUNTS.flip(0)))

    def loss(x: Tensor, weight: Tensor, counts_E: Tensor) -> Tensor:
        return grouped_product(x, weight, Groups(counts_E)).square().sum()

    take = weights[0] if is_shared else weights
    grads = torch.func.vmap(torch.func.grad(loss, (0, 1)), (0, None if is_shared else 0, 0))(xs, take, counts)
    for member in range(2):
        weight = weights[0] if is_shared else weights[member]
        alone = torch.func.grad(loss, (0, 1))(xs[member], weight, counts[member])
        torch.testing.assert_close(tuple(g[member] for g in grads), alone)


def test_the_vendor_says_what_it_takes():
    """torch's product is for bfloat16 on CUDA and widths of 8; asked for elsewhere, it is refused and not replaced."""
    x, weight = torch.empty(9, 6), torch.empty(4, 8, 6)
    reasons = choose(TABLE, plan(x, weight)).rejected
    assert reasons == {}
    with pytest.raises(BackendError, match=r"CUDA.*bfloat16.*multiples of 8"):
        grouped_product(x, weight, Groups(COUNTS, "grouped_mm"))


def test_rows_of_another_width_are_refused():
    """Rows must be as wide as the matrices take."""
    with pytest.raises(ValueError, match="takes rows of 5"):
        grouped_product(drawn(9, 6), drawn(4, 7, 5), Groups(COUNTS))


@pytest.mark.gpu
def test_the_vendor_computes_the_definition():
    """On the device, torch's product and its gradients equal the definition in bfloat16's precision."""
    x, weight = (t.detach().cuda().bfloat16().requires_grad_() for t in (drawn(9, 16), drawn(4, 8, 16, seed=1)))
    counts = COUNTS.cuda()
    y = grouped_product(x, weight, Groups(counts, "grouped_mm"))
    wanted = grouped_product(x, weight, Groups(counts, "reference"))
    torch.testing.assert_close(y, wanted, rtol=2e-2, atol=2e-2)
    got = torch.autograd.grad(y.square().sum(), (x, weight))
    torch.testing.assert_close(got, torch.autograd.grad(wanted.square().sum(), (x, weight)), rtol=5e-2, atol=5e-2)
