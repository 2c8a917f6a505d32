"""The gradient of a decay that is constant per head, without cancellation: kernel, launch and operator.

A constant rate r acts on a pair of steps s < t as exp(r (t - s)), so its gradient weighs every pair by its age t - s.
The scan of `chunk_scan` is taken once more, with a second state in which every entry is weighed by its age. (The
running sum of q·dq - k·dk, exact enough for one step, cancels when it is summed over all of them.)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.recurrence.triton.blocks import headwise, precision
from evo.kernels.recurrence.triton.chunk_scan import HEAD, running_decay
from evo.kernels.triton_rows import load_rows
from evo.kernels.triton_support import aligned, dense


@triton.jit(do_not_specialize=["T"])
def age_weighted_dots(
    x_ptr, y_ptr, z_ptr, rate_ptr, y_weight_ptr, with_ptr, initial_ptr, dot_ptr, aged_ptr,
    x_b, x_t, x_h, y_b, y_t, y_h, z_b, z_t, z_h, with_b, with_t, with_h, initial_head, initial_a, initial_z, H, T,
    STRICT: tl.constexpr, BEFORE: tl.constexpr, Y_WEIGHT: tl.constexpr, INITIAL: tl.constexpr,
    A: tl.constexpr, Z: tl.constexpr, ZB: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dot (Z blocks, B, H), sum_t with_t · sum_s (t - s) D(t, s) (x_t · y_s) z_s; and the aged state (B, H, A, Z)."""
    blocks: tl.constexpr = (Z + ZB - 1) // ZB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    b = (head // H).to(tl.int64)
    h = head % H
    deep = tl.arange(0, A)[:, None]
    cols = block * ZB + tl.arange(0, ZB)[None, :]
    state = tl.zeros([A, ZB], tl.float32)
    aged = tl.zeros([A, ZB], tl.float32)
    if INITIAL:
        at = initial_ptr + head.to(tl.int64) * initial_head + deep * initial_a + cols * initial_z
        state += tl.load(at).to(tl.float32)
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    total = tl.zeros([C], tl.float32)
    for i in tl.range(0, tl.cdiv(T, C)):
        start = i * C
        rows = start + tl.arange(0, C)
        x = load_rows(x_ptr + b * x_b + h * x_h, start, x_t, T, C, A, A, True)
        y = load_rows(y_ptr + b * y_b + h * y_h, start, y_t, T, C, A, A, True)
        z = load_rows(z_ptr + b * z_b + h * z_h + block * ZB, start, z_t, T, C, ZB, ZB, True)
        other = load_rows(with_ptr + b * with_b + h * with_h + block * ZB, start, with_t, T, C, ZB, ZB, True)
        step, upto = running_decay(rate_ptr, rows, T, start, H, b, h, HEAD, C)
        whole = tl.sum(step, 0)
        steps = tl.minimum(T - start, C).to(tl.float32)
        read = upto - step if BEFORE else upto
        read_age = tl.arange(0, C).to(tl.float32) + (0.0 if BEFORE else 1.0)
        pair_age = (row - col - (1 if BEFORE else 0)).to(tl.float32)
        open_ = row > col if STRICT else row >= col
        pairs = tl.exp2(tl.where(open_, read[:, None] - upto[None, :], float("-inf"))) * pair_age
        write = tl.exp2(whole - upto)
        if Y_WEIGHT:
            weight = tl.load(y_weight_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32)
            pairs = pairs * weight[None, :]
            write = write * weight
        write_age = tl.maximum(steps - 1.0 - tl.arange(0, C).to(tl.float32), 0.0)
        scores = tl.dot(x, tl.trans(y), input_precision=PRECISION) * pairs
        out = tl.dot(x, aged.to(x.dtype), input_precision=PRECISION)
        out += tl.dot(x, state.to(x.dtype), input_precision=PRECISION) * read_age[:, None]
        out = tl.dot(scores.to(z.dtype), z, out * tl.exp2(read)[:, None], input_precision=PRECISION)
        total += tl.sum(out * other.to(tl.float32), 1)
        fresh = z.to(tl.float32) * write[:, None]
        aged = (aged + steps * state) * tl.exp2(whole)
        aged = tl.dot(tl.trans(y), (fresh * write_age[:, None]).to(y.dtype), aged, input_precision=PRECISION)
        state = tl.dot(tl.trans(y), fresh.to(y.dtype), state * tl.exp2(whole), input_precision=PRECISION)
    tl.store(dot_ptr + block * (tl.num_programs(0) // blocks) + head, tl.sum(total, 0))
    tl.store(aged_ptr + (head.to(tl.int64) * A + deep) * Z + cols, aged)


FOLDS = folds(Fold((0, 0, 0, None, 0, 0, 0), (0, 0)), Fold((2, 2, 2, 0, 2, 2, 1), (1, 1)))
"""Members as batches, or as heads, which may have decays of their own."""


@operator("head_decay_grad", FOLDS)
def head_decay_grad(
    x: Tensor, y: Tensor, z: Tensor, rate_H: Tensor, y_weight: Tensor | None, dot_with: Tensor, initial: Tensor | None,
    strict: bool, before: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Sums (B, H) and age-weighted states (B, H, A, Z) of `age_weighted_dots`, float32; not differentiable itself.

    A and Z are powers of two.
    """
    x, y, z, dot_with = aligned(x), aligned(y), aligned(z), aligned(dot_with)
    B, T, H, A = x.shape
    Z = z.shape[3]
    weighted = torch.zeros(B, H, A, Z, dtype=torch.float32, device=z.device)
    if B * H == 0 or T == 0:
        return torch.zeros(B, H, dtype=torch.float32, device=z.device), weighted
    columns = min(Z, 32)
    dots = torch.empty(Z // columns, B, H, dtype=torch.float32, device=z.device)
    initial = None if initial is None else headwise(initial)
    state_strides = (0, 0, 0) if initial is None else initial.stride()[1:]
    age_weighted_dots[(B * H * (Z // columns),)](
        x, y, z, dense(rate_H), dense(y_weight), dot_with, initial, dots, weighted, *x.stride()[:3], *y.stride()[:3],
        *z.stride()[:3], *dot_with.stride()[:3], *state_strides, H, T, strict, before, y_weight is not None,
        initial is not None, A, Z, columns, 32, precision(z.dtype), num_warps=4, num_stages=1,
    )  # fmt: skip
    return dots.sum(0), weighted


@head_decay_grad.register_fake
def _(x, y, z, rate, y_weight, dot_with, initial, strict, before):
    B, _, H, A = x.shape
    return x.new_empty(B, H, dtype=torch.float32), x.new_empty(B, H, A, z.shape[3], dtype=torch.float32)


def rate_gradient(weighted_BHAZ: Tensor, sums_BH: Tensor, dfinal: Tensor | None, rate: Tensor) -> Tensor:
    """Gradient (H,) of a constant rate: what all pairs of steps add, and what the final state's entries do by age."""
    if dfinal is not None:
        sums_BH = sums_BH + (weighted_BHAZ.transpose(2, 3) * dfinal).sum((2, 3))
    return sums_BH.sum(0).to(rate.dtype)
