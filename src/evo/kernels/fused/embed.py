"""An embedding whose gradient is one product with one-hot rows: torch's sorts the tokens, in a dozen launches."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.fused.support import AUTO, chosen, table
from evo.kernels.operators import operator
from evo.kernels.triton_support import is_interpreting

LARGEST = 1024
"""Above so many rows the products cost more than torch's sort."""
SPLITS = 16
TILE = 64


def embed(tokens: Tensor, weight_VD: Tensor, *, backend: str = AUTO) -> Tensor:
    """Rows of weight by token, (...) int64 -> (..., D) in weight's dtype."""
    only = f"tables of up to {LARGEST} rows" if weight_VD.shape[0] > LARGEST else ""
    run = chosen(EMBED, weight_VD, backend, only)
    return run(tokens, weight_VD) if tokens.numel() else F.embedding(tokens, weight_VD)


@operator("embed")
def _embed(tokens: Tensor, weight: Tensor) -> Tensor:
    """As F.embedding."""
    return F.embedding(tokens, weight)


@_embed.register_fake
def _(tokens, weight):
    return weight.new_empty(*tokens.shape, weight.shape[1])


@operator("embed_backward")
def _embed_backward(dout: Tensor, tokens: Tensor, rows: int) -> Tensor:
    """The sum of dout (..., D) by token, (rows, D) in dout's dtype."""
    from evo.kernels.fused import triton_embed

    D, N = dout.shape[-1], tokens.numel()
    splits = max(1, min(SPLITS, N // TILE))
    each = -(-N // (splits * TILE)) * TILE
    shares = torch.empty(splits, rows, D, dtype=torch.float32, device=dout.device)
    triton_embed.embed_backward[(-(-rows // TILE), -(-D // TILE), splits)](
        tokens.contiguous(), dout.contiguous(), shares, N, rows, D, each,
        dout.dtype == torch.float32 and not is_interpreting(), TILE, TILE, TILE,
    )  # fmt: skip
    return shares.sum(0).to(dout.dtype)


@_embed_backward.register_fake
def _(dout, tokens, rows):
    return dout.new_empty(rows, dout.shape[-1])


def _save(ctx, inputs, output):
    tokens, weight = inputs
    ctx.rows = weight.shape[0]
    ctx.save_for_backward(tokens)


def _backward(ctx, dout):
    return None, _embed_backward(dout, *ctx.saved_tensors, ctx.rows)


_embed.register_autograd(_backward, setup_context=_save)


EMBED = table("embed", _embed, F.embedding)
