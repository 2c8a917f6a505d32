"""Damped moving averages: against the convolution that Mega computes them by, and with documents by themselves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from test_scan_oracles import Weights, compare, ours
from torch import Tensor

from evo.blocks.flow import Flow


def test_it_is_the_convolution_of_mega() -> None:
    """kernel_l = sum_n p b q^l c / sqrt(N), p = sigmoid(delta), q = 1 - p sigmoid(alpha), as its code has it: outputs,
    and gradients of the input and of every weight."""

    def theirs(x: Tensor, w: Weights) -> Tensor:
        p = w["take"].sigmoid()
        q = 1 - p * w["damp"].sigmoid()
        powers = torch.arange(x.shape[1], dtype=x.dtype)
        kernel = torch.einsum("dn,dnl,dn->dl", p * w["spread"], q[..., None] ** powers, w["gather"] * 5**-0.5)
        padded = F.pad(x.transpose(1, 2), (x.shape[1] - 1, 0))
        out = F.conv1d(padded, kernel.flip(-1)[:, None], groups=x.shape[-1]).transpose(1, 2)
        return F.silu(out + x * w["skip"])

    compare(ours(kind="ema", state=5), theirs)


def test_documents_are_alone() -> None:
    """A row of documents gives what each gives by itself."""
    block = ours(kind="ema", state=3)
    width = block.get_parameter("skip").shape[0]
    x = torch.randn(1, 20, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lengths = [7, 2, 11]
    segments = torch.repeat_interleave(torch.tensor((4, 2, 7)), torch.tensor(lengths))[None]
    alone = torch.cat([block(part, Flow()) for part in x.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(block(x, Flow(segments_BT=segments)), alone, rtol=1e-9, atol=1e-11)
