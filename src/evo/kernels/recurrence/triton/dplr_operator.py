"""The generalised delta rule as a custom operator: `evo::recur_dplr` and its gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.recurrence.triton import dplr_chunk, dplr_gradients, dplr_scan
from evo.kernels.recurrence.triton.blocks import precision
from evo.kernels.triton_support import dense, is_interpreting

# Nats that a chunk may decay and still have one pivot: half of it is taken as a power of e in the inputs' dtype.
RANGES = {torch.bfloat16: 60.0, torch.float16: 12.0, torch.float32: 20.0}
LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Sizes:
    """Tokens a chunk, value columns of a scan's state, columns of v and channels of k in a tile, warps and stages."""

    C: int
    scan: int
    columns: int
    channels: int
    warps: int
    stages: int


def sizes_for(time: int, heads: int, K: int, V: int, dtype: torch.dtype) -> Sizes:
    """K and V are powers of two. Heads narrower than 64 get short chunks, for Triton 3.6 (`delta_operator`)."""
    if is_interpreting():
        return Sizes(32, min(V, 64), min(V, 32), min(K, 32), 4, 1)
    if dtype == torch.float32:
        C, scan, columns, channels = (32 if K <= 64 else 16), 32, 32, 32
    else:
        C, scan, columns, channels = (64 if min(K, V) >= 64 and K <= 128 else 32), 64, 64, 64
    C = min(C, 64 if time > 32 else 32 if time > 16 else 16)
    scan = min(V, scan)
    while scan > 16 and heads * (V // scan) < 128:
        scan //= 2
    return Sizes(C, scan, min(V, columns), min(K, channels), 8 if K > 128 else 4, 2)


def _empty(x: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(shape, dtype=dtype or x.dtype, device=x.device)


@dataclass(frozen=True)
class Prepared:
    """What `dplr_chunk.prepare` makes of all chunks."""

    upto: Tensor
    left: Tensor
    query: Tensor
    reader: Tensor
    key: Tensor
    writer: Tensor
    inverse: Tensor
    mixed: Tensor
    on_k: Tensor
    on_b: Tensor


def _prepare(q, k, a, b, beta, log_decay, scale: float, before: bool, sizes: Sizes) -> Prepared:
    B, T, H, K = q.shape
    C, single = sizes.C, beta is not None
    chunks = -(-T // C)
    upto = _empty(q, B, H, chunks, C, K, dtype=torch.float32)
    left = _empty(q, B, H, chunks, K, dtype=torch.float32)
    query, reader, writer = (_empty(q, B, H, chunks, C, K) for _ in range(3))
    inverse, on_b = (_empty(q, B, H, chunks, C, C) for _ in range(2))
    key = writer if single else _empty(q, B, H, chunks, C, K)
    mixed, on_k = (inverse, on_b) if single else (_empty(q, B, H, chunks, C, C) for _ in range(2))
    made = Prepared(upto, left, query, reader, key, writer, inverse, mixed, on_k, on_b)
    blocks = K // min(K, 64)
    dplr_chunk.run_decay[(B * H * chunks * blocks,)](log_decay, upto, left, H, T, K, K // blocks, C, num_warps=4)
    for gentle in (True, False):
        dplr_chunk.prepare[(B * H * chunks,)](
            q, k, a, b, beta, upto, query, reader, key, writer, inverse, mixed, on_k, on_b, H, T, scale, gentle, before,
            single, K, sizes.channels, C, C.bit_length() - 1, RANGES[q.dtype] * LOG2E, precision(q.dtype),
            num_warps=sizes.warps, num_stages=1,
        )  # fmt: skip
    return made


@operator("recur_dplr", folds(Fold((0,) * 8, (0,) * 4)))
def recur_dplr(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, b: Tensor | None, beta: Tensor | None, log_decay: Tensor,
    initial: Tensor | None, scale: float, before: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """o (B, T, H, V) and the final state (B, H, K, V) float32; with `keep`, for the backward pass, what a reads
    (B, H, chunks, C, V) and the states at every chunk's ends (B, H, chunks + 1, K, V), which are not differentiable.

    With beta (B, T, H) in place of a and b, S_t = D S + beta k^T (v - k D S): the delta rule.
    `before`: o reads S_{t-1}.
    """
    q, k, v, log_decay = (x.contiguous() for x in (q, k, v, log_decay))
    a, b, beta, initial = (dense(x) for x in (a, b, beta, initial))
    B, T, H, K = q.shape
    V = v.shape[3]
    sizes = sizes_for(T, B * H, K, V, q.dtype)
    chunks = -(-T // sizes.C)
    o, final = _empty(v, B, T, H, V), _empty(v, B, H, K, V, dtype=torch.float32)
    seen = _empty(v, *((B, H, chunks, sizes.C, V) if keep else (0,)))
    states = _empty(v, *((B, H, chunks + 1, K, V) if keep else (0,)))
    if B * H == 0 or T == 0:
        return o, final.zero_() if initial is None else final.copy_(initial), seen, states
    made = _prepare(q, k, a, b, beta, log_decay, scale, before, sizes)
    dplr_scan.forward[(B * H * (V // sizes.scan),)](
        v, made.left, made.query, made.reader, made.key, made.writer, made.mixed, made.on_k, made.on_b, initial,
        o, final, states, seen, H, T, beta is not None, initial is not None, keep, K, V, sizes.scan, sizes.C,
        precision(v.dtype), num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return o, final, seen, states


@recur_dplr.register_fake
def _(q, k, v, a, b, beta, log_decay, initial, scale, before, keep):
    B, T, H, K = q.shape
    V = v.shape[3]
    C = sizes_for(T, B * H, K, V, q.dtype).C
    chunks = -(-T // C)
    seen, states = ((B, H, chunks, C, V), (B, H, chunks + 1, K, V)) if keep else (0, 0)
    return v.new_empty(v.shape), v.new_empty(B, H, K, V, dtype=torch.float32), v.new_empty(seen), v.new_empty(states)


@operator("recur_dplr_backward", folds(Fold((0,) * 11, (0,) * 8)))
def recur_dplr_backward(
    do: Tensor, dfinal: Tensor | None, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, b: Tensor | None,
    beta: Tensor | None, log_decay: Tensor, seen: Tensor, states: Tensor, scale: float, before: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk, dv, da and db (empty with beta), dbeta float32 (empty without), dlog_decay (B, T, H, K) float32 and
    dinitial (B, H, K, V) float32."""
    q, k, v, log_decay, do = (x.contiguous() for x in (q, k, v, log_decay, do))
    a, b, beta, dfinal = (dense(x) for x in (a, b, beta, dfinal))
    B, T, H, K = q.shape
    V, single = v.shape[3], beta is not None
    sizes = sizes_for(T, B * H, K, V, q.dtype)
    C, exact, chunks = sizes.C, precision(q.dtype), -(-T // sizes.C)
    dq, dk = (_empty(q, B, T, H, K) for _ in range(2))
    da, db = (_empty(q, *((0,) if single else (B, T, H, K))) for _ in range(2))
    blocks = K // sizes.channels
    dbeta = _empty(q, *((blocks, B, T, H) if single else (1, 0)), dtype=torch.float32)
    ddecay = _empty(q, B, T, H, K, dtype=torch.float32)
    dv, dinitial = _empty(v, B, T, H, V), _empty(v, B, H, K, V, dtype=torch.float32)
    if B * H == 0 or T == 0:
        passed = dinitial.zero_() if dfinal is None else dinitial.copy_(dfinal)
        return dq, dk, dv, da, db, dbeta.sum(0), ddecay, passed
    made = _prepare(q, k, a, b, beta, log_decay, scale, before, sizes)
    dseen, dsolved = (_empty(v, B, H, chunks, C, V) for _ in range(2))
    dstates = _empty(v, B, H, chunks, K, V)
    launch = {"num_warps": sizes.warps, "num_stages": sizes.stages}
    dplr_scan.back[(B * H * (V // sizes.scan),)](
        do, made.left, made.query, made.reader, made.writer, made.on_b, dfinal, dseen, dstates, dinitial, H, T,
        dfinal is not None, K, V, sizes.scan, C, exact, **launch,
    )  # fmt: skip
    pairs = [_empty(q, B, H, chunks, C, C) for _ in range(4)]
    launch["num_stages"] = 1
    dplr_gradients.values_back[(B * H * chunks,)](
        do, v, seen, dseen, dstates, made.key, made.inverse, made.mixed, made.on_k, dv, dsolved, *pairs, H, T,
        before, single, K, V, sizes.columns, C, exact, **launch,
    )  # fmt: skip
    how = (
        before, single, K, V, sizes.channels, sizes.columns, C, C.bit_length() - 1, RANGES[q.dtype] * LOG2E, exact,
    )  # fmt: skip
    readers = dk if single else da
    for gentle in (True, False):
        launch = {"num_warps": sizes.warps, "num_stages": 2, "maxnreg": 168 if gentle else None}
        dplr_gradients.readers_back[(B * H * chunks * blocks,)](
            q, k, a, b, beta, made.upto, do, dsolved, states, *pairs, dq, readers, ddecay, H, T, scale, gentle, *how,
            **launch,
        )  # fmt: skip
        dplr_gradients.writers_back[(B * H * chunks * blocks,)](
            q, k, a, b, beta, made.upto, v, seen, states, dstates, *pairs, dq, readers, dk, db, dbeta, ddecay,
            H, T, scale, gentle, *how, **launch,
        )  # fmt: skip
    return dq, dk, dv, da, db, dbeta.sum(0), ddecay, dinitial


@recur_dplr_backward.register_fake
def _(do, dfinal, q, k, v, a, b, beta, log_decay, seen, states, scale, before):
    B, _, H, K = q.shape
    dq, dk, dv, ddecay = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v, q))
    da, db = (q.new_empty(k.shape if beta is None else 0) for _ in range(2))
    dbeta = q.new_empty(0 if beta is None else beta.shape, dtype=torch.float32)
    return dq, dk, dv, da, db, dbeta, ddecay.float(), q.new_empty(B, H, K, v.shape[3], dtype=torch.float32)


def _save(ctx, inputs, output):
    q, k, v, a, b, beta, log_decay, initial, ctx.scale, ctx.before, _ = inputs
    _, _, seen, states = output
    ctx.mark_non_differentiable(seen, states)
    ctx.save_for_backward(q, k, v, a, b, beta, log_decay, seen, states)
    ctx.initial_dtype = None if initial is None else initial.dtype
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dfinal, _seen, _states):
    q, k, v, a, b, beta, log_decay, seen, states = ctx.saved_tensors
    do = torch.zeros_like(v) if do is None else do.to(v.dtype)
    dq, dk, dv, da, db, dbeta, ddecay, dinitial = recur_dplr_backward(
        do, dfinal, q, k, v, a, b, beta, log_decay, seen, states, ctx.scale, ctx.before
    )
    da, db, dbeta = (None, None, dbeta.to(beta.dtype)) if beta is not None else (da, db, None)
    dinitial = None if ctx.initial_dtype is None else dinitial.to(ctx.initial_dtype)
    return dq, dk, dv, da, db, dbeta, ddecay.to(log_decay.dtype), dinitial, None, None, None


recur_dplr.register_autograd(_backward, setup_context=_save)


def run(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None, dplr: tuple[Tensor, Tensor] | None,
    log_decay: Tensor | None, initial: Tensor | None, scale: float, before: bool, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """o and the final state, for any log decay. One of `beta`, for the delta rule, and `dplr` = (a, b) is given."""
    decay = torch.zeros(1, device=q.device) if log_decay is None else log_decay
    decay = (decay if decay.ndim == 4 else decay[..., None]).expand(q.shape)
    a, b = dplr or (None, None)
    return recur_dplr(q, k, v, a, b, beta, decay, initial, scale, before, keep)[:2]
