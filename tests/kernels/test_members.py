"""Folding of members: which folds fit, and that results come back to the member they belong to."""

import torch

from evo.kernels.members import Fold, folds, no_folds, over_members


def doubled(x, y, factor):
    """A kernel over batches, whose second result is empty."""

    return x * y * factor, x.new_empty(0)


def rows(*shape):
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def test_a_fold_is_one_call():
    """Members lie side by side along the axes of the first fold that fits; empty results are empty for each."""
    calls = []

    def call(*inputs):
        calls.append([x.shape for x in inputs[:2]])
        return doubled(*inputs)

    x, y = rows(3, 2, 4), rows(4, 3)
    fold = folds(Fold((0, None), (0, 0)), Fold((1, 0), (1, 0)))
    (product, empty), out_dims = over_members(call, fold, 3, (0, 1, None), (x, y, 2.0))
    assert calls == [[(2, 12), (12,)]]
    expected = torch.stack([x[m] * y[:, m] * 2.0 for m in range(3)])
    assert torch.equal(product.movedim(out_dims[0], 0), expected)
    assert empty.shape == (3, 0)


def test_what_is_in_common_is_copied_densely():
    """A kernel that takes a dense tensor gets no strides of 0."""
    seen = []

    def call(x, y):
        seen.append(y.is_contiguous() and 0 not in y.stride())
        return x + y

    x, y = rows(3, 1, 4), rows(1, 4)
    found, out_dim = over_members(call, folds(Fold((0, 0), (0,))), 3, (0, None), (x, y))
    assert seen == [True]
    assert torch.equal(found.movedim(out_dim, 0), x + y)


def test_without_a_fold_there_is_a_call_a_member():
    """Results are stacked in the members' order."""
    x = rows(2, 3)
    (products, _), out_dims = over_members(doubled, no_folds, 3, (1, None, None), (x, 2.0, 1.0))
    assert torch.equal(products, (x * 2.0).t())
    assert out_dims == (0, 0)
