"""Sums of decay gradients against torch's own: segments, anchors, pieces."""

import pytest
import torch
from tests.kernels.device import DEVICE, RUNS_KERNELS

pytestmark = RUNS_KERNELS
B, H, LENGTH = 2, 3, 32


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("T", [1, 32, 50, 100])
def test_triton_sums_equal_torchs(T, before):
    """Whatever the anchors are, each segment's sums begin with the next one's, the last with the end's."""
    from evo.kernels.recurrence.triton.token_decay import step_gradients

    segments = -(-T // LENGTH)
    query, key = normal(2, B, H, T), normal(1, B, H, T)
    anchors, at_end = normal(2, B, H, segments), normal(B, H)
    change = query.sum(0) - key.sum(0)
    expected = torch.empty(B, H, T, device=DEVICE)
    for segment in range(segments):
        part = slice(segment * LENGTH, (segment + 1) * LENGTH)
        behind = at_end if segment == segments - 1 else anchors.sum(0)[..., segment + 1]
        expected[..., part] = change[..., part].flip(-1).cumsum(-1).flip(-1) + behind[..., None]
    expected = (expected - query.sum(0) if before else expected).transpose(1, 2)
    found = step_gradients(query, key, anchors, at_end, before, LENGTH)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
