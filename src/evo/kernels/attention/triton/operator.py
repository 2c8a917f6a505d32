"""The Triton attention as custom operators: traced by torch.compile, captured in CUDA graphs, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.attention.call import AttentionCall, AttentionExtras
from evo.kernels.attention.stencil import KINDS, Stencil
from evo.kernels.attention.triton.launch import Asked, Call, Extras, empty_gradients, launch_backward, launch_forward
from evo.kernels.members import Fold
from evo.kernels.operators import operator
from evo.kernels.triton_support import dense, pad_to_pow2


def pack(stencil: Stencil) -> list[int]:
    """A stencil as a list of integers, since operators take no dataclasses."""
    kind = KINDS.index(stencil.kind)
    return [kind, stencil.size or 0, stencil.sinks, int(stencil.causal), stencil.dilation, stencil.period or 0]


def unpack(numbers: list[int]) -> Stencil:
    kind, size, sinks, causal, dilation, period = numbers
    return Stencil(KINDS[kind], size or None, sinks, bool(causal), dilation, period or None)


def _folds(q, k, v, sink, slopes, bias, places, ids_q, ids_k, stencil, offset, scale, cap) -> tuple[Fold, ...]:
    """Members as batches, or as heads where heads have numbers of their own. A bias has many shapes."""
    batches = Fold((0, 0, 0, *(None,) * 4, 0, 0), (0, 0))
    heads = Fold((2, 2, 2, 0, 0), (2, 1))
    return (batches, heads) if bias is None else (batches,) if bias.ndim < 4 else ()


@operator("attention", _folds)
def attention(
    q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None, slopes: Tensor | None, bias: Tensor | None,
    places: Tensor | None, ids_q: Tensor | None, ids_k: Tensor | None,
    stencil: list[int], offset: int, scale: float, cap: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """o (B, T, H, V) and the log-sum-exp (B, H, T) float32, both differentiable. cap 0 means none."""
    extras = Extras(sink, slopes, bias, places, ids_q, ids_k)
    return launch_forward(q, k, v, extras, Call(unpack(stencil), offset, scale, cap))


@attention.register_fake
def _(q, k, v, sink, slopes, bias, places, ids_q, ids_k, stencil, offset, scale, cap):
    B, T, H, _ = q.shape
    return q.new_empty(B, T, H, v.shape[3]), q.new_empty(B, H, T, dtype=torch.float32)


def _folds_back(
    do, dlse, q, k, v, o, lse, sink, slopes, bias, ids_q, ids_k, asked, stencil, offset, scale, cap
) -> tuple[Fold, ...]:
    """As `_folds`; the gradient of a bias would be summed over batches."""
    batches = Fold((*(0,) * 7, *(None,) * 3, 0, 0), (0,) * 6)
    heads = Fold((2, 1, 2, 2, 2, 2, 1, 0, 0), (2, 2, 2, 1, 1, 0))
    return (batches, heads) if bias is None else () if asked[2] or bias.ndim == 4 else (batches,)


@operator("attention_backward", _folds_back)
def attention_backward(
    do: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, sink: Tensor | None,
    slopes: Tensor | None, bias: Tensor | None, ids_q: Tensor | None, ids_k: Tensor | None, asked: list[bool],
    stencil: list[int], offset: int, scale: float, cap: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The fields of `Gradients`; `asked`: those of `Asked`."""
    call, extras = Call(unpack(stencil), offset, scale, cap), Extras(sink, slopes, bias, None, ids_q, ids_k)
    return tuple(vars(launch_backward(do, dlse, q, k, v, o, lse, extras, call, Asked(*asked))).values())


@attention_backward.register_fake
def _(do, dlse, q, k, v, o, lse, sink, slopes, bias, ids_q, ids_k, asked, stencil, offset, scale, cap):
    return tuple(vars(empty_gradients(q, k, v, lse, bias, Asked(*asked))).values())


def _save(ctx, inputs, output):
    q, k, v, sink, slopes, bias, _, ids_q, ids_k, *ctx.numbers = inputs
    ctx.save_for_backward(q, k, v, *output, sink, slopes, bias, ids_q, ids_k)
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dlse):
    q, k, v, o, lse, sink, slopes, bias, ids_q, ids_k = ctx.saved_tensors
    do = torch.zeros_like(o) if do is None else do
    dlse = None if dlse is None else dlse.contiguous()
    asked = list(ctx.needs_input_grad[3:6])
    dq, dk, dv, dsink, dslopes, dbias = attention_backward(
        do, dlse, q, k, v, o, lse, sink, slopes, bias, ids_q, ids_k, asked, *ctx.numbers
    )
    dsink = dsink.sum((0, 2)).to(sink.dtype) if asked[0] else None
    dslopes = dslopes.sum((0, 2)).to(slopes.dtype) if asked[1] else None
    if asked[2]:
        dbias = dbias.sum_to_size((1,) * (4 - bias.ndim) + bias.shape).reshape(bias.shape).to(bias.dtype)
    return dq, dk, dv, dsink, dslopes, dbias if asked[2] else None, *[None] * 7


attention.register_autograd(_backward, setup_context=_save)


def run_with_lse(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, extras: AttentionExtras, scale: float):
    """o (B, T, H, V) and the log-sum-exp (B, H, T)."""
    if scale <= 0.0:  # the kernel takes the maximum before it scales
        q, scale = (-q, -scale) if scale < 0.0 else (q * 0.0, 1.0)
    ids_q, ids_k = map(dense, extras.segments or (None, None))
    o, lse = attention(
        pad_to_pow2(q), pad_to_pow2(k.to(q.dtype)), pad_to_pow2(v.to(q.dtype)),
        dense(extras.sink_logits_H), dense(extras.alibi_slopes_H), extras.bias_HTS,
        dense(extras.key_positions_S), ids_q, ids_k,
        pack(call.stencil), extras.query_offset, scale, extras.soft_cap or 0.0,
    )  # fmt: skip
    return o[..., : v.shape[3]], lse
