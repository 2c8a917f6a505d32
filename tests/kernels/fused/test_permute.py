"""Rows in another order and their weighed sums: the definition by hand, gradients, kernels against float64.

On a CUDA device: `pytest -m gpu tests/kernels/fused`.
Under the interpreter: `TRITON_INTERPRET=1 pytest tests/kernels/fused`.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS
from tests.kernels.fused.test_fused import DTYPES, check, normal
from torch import Tensor

from evo.kernels.fused import Permutation, permute, unpermute
from evo.kernels.fused.permute import _permute, _row_dots, _unpermute
from evo.kernels.triton_support import is_interpreting

SHAPES = [(1, 1, 1), (5, 3, 24), (7, 2, 129), (3, 9, 40), (6, 1, 1100)]
"""Tokens, choices and widths: odd ones, some of more than a tile, one choice, more choices than turns made one."""
if not is_interpreting():
    SHAPES += [(333, 8, 2048), (1000, 5, 33)]


def order(rows: int, device: str = DEVICE) -> Permutation:
    """Some order of rows."""
    return Permutation.of(torch.randperm(rows, generator=torch.Generator().manual_seed(3)).to(device))


def spread(x_NX: Tensor, rows: Permutation, shares_NP: Tensor | None = None) -> Tensor:
    """`permute` by a loop."""
    copies = len(rows.order_R) // len(x_NX)
    whose = [divmod(row, copies) for row in rows.order_R.tolist()]
    return torch.stack([x_NX[n] * (1.0 if shares_NP is None else shares_NP[n, p]) for n, p in whose])


def gathered(y_RX: Tensor, rows: Permutation, shares_NP: Tensor | None = None) -> Tensor:
    """`unpermute` by a loop."""
    places = {row: place for place, row in enumerate(rows.order_R.tolist())}
    if shares_NP is None:
        return torch.stack([y_RX[places[row]] for row in range(len(y_RX))])
    copies = shares_NP.shape[1]
    sums = [sum(shares_NP[n, p] * y_RX[places[n * copies + p]] for p in range(copies)) for n in range(len(shares_NP))]
    return torch.stack(sums)


@pytest.mark.parametrize(("run", "by_hand"), [(permute, spread), (unpermute, gathered)])
@pytest.mark.parametrize("is_weighed", [False, True])
def test_the_definition(run, by_hand, is_weighed):
    """Values are those of a loop; gradients, those of rows and shares, pass torch's check in float64."""
    tokens, copies, width = 5, 3, 4
    rows, stream = order(tokens * copies, "cpu"), torch.Generator().manual_seed(0)
    height = tokens if run is permute else tokens * copies
    x = torch.randn(height, width, generator=stream, dtype=torch.float64).requires_grad_()
    shares = [torch.randn(tokens, copies, generator=stream, dtype=torch.float64).requires_grad_()] * is_weighed
    torch.testing.assert_close(run(x, rows, *shares), by_hand(x, rows, *shares))
    assert torch.autograd.gradcheck(lambda x, *shares: run(x, rows, *shares), (x, *shares))


def test_where_rows_stand():
    """The inverse is the place of each row, a shift how far behind its own number it stands."""
    rows = Permutation.of(torch.tensor([2, 0, 1]))
    assert rows.inverse_R.tolist() == [1, 2, 0]
    assert rows.shift_R.tolist() == [1, 1, -2]


class TestKernels:
    """What runs on a device."""

    pytestmark = RUNS_KERNELS

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("is_weighed", [False, True])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_rows_are_laid_down(self, shape, is_weighed, dtype):
        """Copies of rows, times their shares if they have some: values and gradients."""
        N, P, D = shape
        rows, shares = order(N * P), [normal(N, P, seed=1, dtype=dtype)] * is_weighed
        fused = lambda x, *shares: permute(x, rows, *shares, backend="triton")  # noqa: E731
        plain = lambda x, *shares: permute(x, rows, *shares, backend="reference")  # noqa: E731
        check(fused, plain, [normal(N, D, dtype=dtype), *shares])

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("is_weighed", [False, True])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_rows_are_summed(self, shape, is_weighed, dtype):
        """Weighed sums of a token's rows, or all rows as they were: values and gradients."""
        N, P, D = shape
        rows, shares = order(N * P), [normal(N, P, seed=1, dtype=dtype)] * is_weighed
        fused = lambda y, *shares: unpermute(y, rows, *shares, backend="triton")  # noqa: E731
        plain = lambda y, *shares: unpermute(y, rows, *shares, backend="reference")  # noqa: E731
        check(fused, plain, [normal(N * P, D, dtype=dtype), *shares])

    def test_nothing_is_left_unwritten(self, poisoned):
        """On memory that holds NaN, in all three operators."""
        rows, shares = order(15), normal(5, 3, seed=1)
        x, y = normal(5, 40), normal(15, 40, seed=2)
        assert not _permute(x, rows.shift_R, None).isnan().any()
        assert not _unpermute(y, rows.shift_R, shares, 3).isnan().any()
        assert not _row_dots(x, y, rows.shift_R).isnan().any()

    def test_what_needs_no_gradient_gets_none(self):
        """Shares that nobody trains cost no scalar products, and rows are not kept for them; nor are rows that nobody
        trains laid down again."""
        rows, shares, y = order(15), normal(5, 3, seed=1), normal(15, 40, seed=2)
        for run, x in ((permute, normal(5, 40)), (unpermute, y)):
            call = partial(run, backend="triton")
            whole, part = shares.clone().requires_grad_(), x.clone().requires_grad_()
            both = torch.autograd.grad(call(part, rows, whole).sum(), (part, whole))
            kept: list[torch.Size] = []
            with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):  # noqa: B023
                alone = call(part, rows, shares)
            assert x.shape not in kept
            assert torch.equal(torch.autograd.grad(alone.sum(), part)[0], both[0])
            assert torch.equal(torch.autograd.grad(call(x, rows, whole).sum(), whole)[0], both[1])

    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
    def test_operators_are_well_formed(self):
        """torch's opcheck: schemas, fake implementations, registered autograd."""
        x, y, shares = (normal(*shape).requires_grad_() for shape in ((5, 24), (15, 24), (5, 3)))
        shift, ops = order(15).shift_R, torch.ops.evo
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        for operator, arguments in (
            (ops.permute, (x, shift, None)),
            (ops.permute, (x, shift, shares)),
            (ops.unpermute, (y, shift, None, 1)),
            (ops.unpermute, (y, shift, shares, 3)),
            (ops.row_dots, (x.detach(), y.detach(), shift)),
        ):
            torch.library.opcheck(operator.default, arguments, test_utils=tests)
