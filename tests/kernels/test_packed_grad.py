"""The packed-gradient contract: what a kernel hands out as columns, a product finds again without a copy."""

import torch

from evo.kernels.packed_grad import columns, packed


def flat(parts):
    """As a product sees gradients: (N, width) each."""
    return [part.flatten(2).flatten(0, 1) for part in parts]


def made():
    whole = torch.arange(2.0 * 3 * 14).view(2, 3, 14)
    return whole, columns(whole, [(2, 4), (1, 4), (2,)])


def test_columns_have_the_shapes_asked_for():
    """In order, and each a view."""
    whole, parts = made()
    assert [part.shape for part in parts] == [(2, 3, 2, 4), (2, 3, 1, 4), (2, 3, 2)]
    assert torch.equal(torch.cat([part.flatten(2) for part in parts], -1), whole)


def test_all_columns_in_order_are_packed_as_they_lie():
    """No copy."""
    whole, parts = made()
    found = packed(flat(parts))
    assert found.data_ptr() == whole.data_ptr()
    assert torch.equal(found, whole.flatten(0, 1))


def test_anything_else_is_copied():
    """Columns left out or in another order, tensors of their own, and neighbours in memory that are no columns."""
    _, parts = made()
    q, k, v = flat(parts)
    for group in ([q, k], [k, q, v], [q, k, v.clone()], [q, v, k]):
        found = packed(group)
        assert found.data_ptr() != q.data_ptr() or len(group) == 1
        assert torch.equal(found, torch.cat(group, -1))
    rows = torch.arange(8.0).view(2, 4)
    assert torch.equal(packed([rows[:1], rows[1:]]), rows.view(1, 8))


def test_one_matrix_is_itself():
    """Dense or not."""
    whole = torch.arange(12.0).view(3, 4)
    assert packed([whole]).data_ptr() == whole.data_ptr()
    assert torch.equal(packed([whole[:, :2]]), whole[:, :2])
