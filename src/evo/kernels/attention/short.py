"""Plain causal attention of short sequences in one launch each way, as custom operators."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import math

import torch
from torch import Tensor

from evo.kernels.attention.call import AttentionCall, AttentionExtras
from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.packed_grad import columns
from evo.kernels.triton_support import aligned, machine_reasons

TILE = 64
LONGEST = 256
"""The longest sequence on which these were measured to be faster than the vendor's (results/bench/step_h100.md)."""
DIMS = (16, 32, 64)
DTYPES = ("float16", "bfloat16")


def reasons(call: AttentionCall) -> list[str]:
    """Why the short kernels cannot run, or should not."""
    found = machine_reasons(call.device, call.dtype)
    if call.dtype not in DTYPES:
        found.append(f"the short kernels take {' and '.join(DTYPES)}, found {call.dtype}")
    if not call.is_plain_causal or call.has_soft_cap or call.has_sink_logits:
        found.append("the short kernels take plain causal problems only")
    found += call.equation_reasons()
    if call.has_keep:
        found.append("multiplies no probabilities")
    if call.key_dim not in DIMS or call.value_dim != call.key_dim:
        found.append(f"the short kernels take equal head dims of {', '.join(map(str, DIMS))}")
    if call.queries > LONGEST:
        found.append(f"the short kernels take up to {LONGEST} tokens, found {call.queries}")
    if call.batch == 0 or call.queries == 0:
        found.append("there is nothing to attend to")
    return found


def run(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, extras: AttentionExtras, scale: float) -> Tensor:
    """The signature that all backends share."""
    del call, extras
    return short_attention(q, k.to(q.dtype), v.to(q.dtype), scale)[0]


@operator("short_attention", folds(Fold((0, 0, 0), (0, 0))))
def short_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """q (B, T, H, K), k and v (B, T, G, K) -> o (B, T, H, K), and the log-sum-exp (B, H, T) / log 2, float32."""
    from evo.kernels.attention import triton_short

    q, k, v = aligned(q), aligned(k), aligned(v)
    o, lse = _answers(q)
    B, T, H, K = q.shape
    triton_short.short_forward[(-(-T // TILE) * B * H,)](
        q, k, v, o, lse, *_strides(q, k, v), B, T, H, scale / math.log(2.0), H // k.shape[2], K,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return o, lse


@operator("short_attention_backward", folds(Fold((0,) * 6, (0,))))
def short_attention_backward(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, scale: float
) -> Tensor:
    """dq, dk and dv, (B, T, H K + 2 G K), by the packed-gradient contract."""
    from evo.kernels.attention import triton_short

    do, q, k, v = aligned(do), aligned(q), aligned(k), aligned(v)
    packed = _empty_packed(q, k)
    B, T, H, K = q.shape
    G = k.shape[2]
    triton_short.short_backward[(-(-T // TILE) * B * (H + G),)](
        q, k, v, o, do, lse, *packed.split(_widths(q, k), -1), *_strides(q, k, v, do), packed.stride(1),
        B, T, H, scale, scale / math.log(2.0), H // G, K, num_warps=4, num_stages=2,
    )  # fmt: skip
    return packed


def _answers(q: Tensor) -> tuple[Tensor, Tensor]:
    B, T, H, K = q.shape
    lse = torch.empty(B, H, T, dtype=torch.float32, device=q.device)
    return torch.empty(B, T, H, K, dtype=q.dtype, device=q.device), lse


def _widths(q: Tensor, k: Tensor) -> list[int]:
    (H, K), G = q.shape[2:], k.shape[2]
    return [H * K, G * K, G * K]


def _empty_packed(q: Tensor, k: Tensor) -> Tensor:
    return torch.empty(*q.shape[:2], sum(_widths(q, k)), dtype=q.dtype, device=q.device)


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:3]]


@short_attention.register_fake
def _(q, k, v, scale):
    return _answers(q)


@short_attention_backward.register_fake
def _(do, q, k, v, o, lse, scale):
    return _empty_packed(q, k)


def _save(ctx, inputs, output):
    q, k, v, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dlse):
    del dlse
    shapes = [x.shape[2:] for x in ctx.saved_tensors[:3]]
    return *columns(short_attention_backward(do, *ctx.saved_tensors, ctx.scale), shapes), None


short_attention.register_autograd(_backward, setup_context=_save)
