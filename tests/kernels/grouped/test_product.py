"""Grouped products: every backend computes the definition, in values and gradients, for members of a population too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from evo.kernels.dispatch import BackendError, choose
from evo.kernels.fused.project import project
from evo.kernels.grouped import Groups, grouped_product, plan
from evo.kernels.grouped.backends import TABLE
from evo.kernels.grouped.product import _product

COUNTS = torch.tensor([3, 0, 5, 1])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal, float64, with a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def half(*shape: int, seed: int = 0) -> Tensor:
    """Normal, bfloat16."""
    return drawn(*shape, seed=seed).detach().bfloat16()


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


class Copies(TorchDispatchMode):
    """The shapes of what is copied inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.clone.default, torch.ops.aten.copy_.default):
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def test_the_vendor_copies_nothing_that_it_can_read():
    """Neither pass copies a stack, whichever side of its matrices is dense, nor rows that lie apart: torch's product,
    which runs on the CPU too, reads them all, in values and gradients."""
    x, weight, cotangent = half(9, 32), half(4, 8, 16, seed=1), half(9, 16, seed=2)
    every_other = weight.repeat_interleave(2, 2)[..., ::2]
    layouts = (weight, weight.mT.contiguous().mT, every_other, weight.expand(2, 4, 8, 16)[1])
    for stack, copies in zip(layouts, (0, 0, 2, 0), strict=True):
        rows, dy = x[:, :16].requires_grad_(), cotangent[:, :8]
        stack = stack.detach().requires_grad_()
        with Copies() as seen:
            y = _product(rows, stack, COUNTS, "grouped_mm")
            found = torch.autograd.grad(y, (rows, stack), dy)
        assert len(seen.shapes) == copies, (stack.stride(), seen.shapes)
        wanted = grouped_product(rows, stack, Groups(COUNTS, "reference"))
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(found, torch.autograd.grad(wanted, (rows, stack), dy))


@pytest.mark.parametrize(
    "rows",
    [
        lambda x: x.t().contiguous().t(),  # an entry's rows may begin anywhere
        lambda x: x.repeat(1, 2)[:, 1:17],  # begin at an odd multiple of 2 bytes
        lambda x: F.pad(x, (0, 1))[:, :16],  # lie 34 bytes apart
        lambda x: x[:1].expand(9, 16),  # are all one
        lambda x: x.as_strided((1, 16), (1, 1)),  # is one, at a stride of 1
    ],
)
def test_the_vendor_gets_copies_of_what_it_cannot_read(rows: Callable[[Tensor], Tensor]):
    """What is not aligned to 16 bytes from row to row is copied first."""
    given, weight = rows(half(9, 16)), half(4, 8, 16, seed=1)
    counts = COUNTS if len(given) == 9 else torch.tensor([0, 1, 0, 0])
    with Copies() as seen:
        y = _product(given, weight, counts, "grouped_mm")
    assert seen.shapes == [tuple(given.shape)]
    torch.testing.assert_close(y, grouped_product(given, weight, Groups(counts, "reference")))


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
