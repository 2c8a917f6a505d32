"""Triton kernels: the norm of all gradients, the numbers of a step, and AdamW over many tensors in one launch.

A table names the pieces of all tensors, a row of seven int64 each: addresses of parameter, gradient, first moment and
second moment, the number of elements (up to CHUNK), the parameter group, and the address of a bfloat16 copy or 0.
"""

import triton
import triton.language as tl

FIELDS = tl.constexpr(7)


@triton.jit
def pointer(table, field: tl.constexpr):
    """Where a float32 tensor of this program's piece begins, at a multiple of 16 bytes."""
    address = tl.load(table + tl.program_id(0) * FIELDS + field)
    return tl.multiple_of(address.to(tl.pointer_type(tl.float32)), 16)


@triton.jit
def square_sums(table, sums, CHUNK: tl.constexpr):
    """The sum of squares of every piece's gradient."""
    at = tl.arange(0, CHUNK)
    count = tl.load(table + tl.program_id(0) * FIELDS + 4)
    g = tl.load(pointer(table, 1) + at, mask=at < count, other=0.0)
    tl.store(sums + tl.program_id(0), tl.sum(g * g, 0))


@triton.jit(do_not_specialize=["pieces", "counters"])
def numbers(sums, pieces, steps, counters, scalars, clip, beta1, beta2, SIZE: tl.constexpr):
    """Count the step in all counters; scalars: what gradients are multiplied by, 1 - beta ** step for both moments.

    An infinite clip leaves gradients as they are, whatever the sums.
    """
    total = tl.zeros((SIZE,), tl.float32)
    for start in range(0, pieces, SIZE):
        at = start + tl.arange(0, SIZE)
        total += tl.load(sums + at, mask=at < pieces, other=0.0)
    factor = tl.minimum(clip / (tl.sqrt(tl.sum(total, 0)) + 1e-6), 1.0)
    now = tl.load(steps) + 1.0
    tl.debug_barrier()  # every warp has read the counter before one writes it
    for start in range(0, counters, SIZE):
        at = start + tl.arange(0, SIZE)
        tl.store(steps + at, tl.zeros((SIZE,), tl.float32) + now, mask=at < counters)
    tl.store(scalars, factor)
    tl.store(scalars + 1, 1.0 - tl.exp2(now * tl.log2(beta1)))
    tl.store(scalars + 2, 1.0 - tl.exp2(now * tl.log2(beta2)))


@triton.jit
def update(table, scalars, lr_G, decay_G, beta1, beta2, eps, CHUNK: tl.constexpr):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on every piece, float32; renews the copies."""
    at = tl.arange(0, CHUNK)
    row = table + tl.program_id(0) * FIELDS
    count, group = tl.load(row + 4), tl.load(row + 5)
    p_at, g_at, m_at, v_at = pointer(table, 0), pointer(table, 1), pointer(table, 2), pointer(table, 3)
    lr, decay = tl.load(lr_G + group), tl.load(decay_G + group)
    inside = at < count
    g = tl.load(g_at + at, mask=inside) * tl.load(scalars)
    m = tl.load(m_at + at, mask=inside)
    v = tl.load(v_at + at, mask=inside)
    p = tl.load(p_at + at, mask=inside) * (1.0 - lr * decay)
    m += (g - m) * (1.0 - beta1)
    v = v * beta2 + g * g * (1.0 - beta2)
    root = tl.sqrt(v) / tl.sqrt(tl.load(scalars + 2)) + eps
    p -= lr / tl.load(scalars + 1) * (m / root)
    tl.store(p_at + at, p, mask=inside)
    tl.store(m_at + at, m, mask=inside)
    tl.store(v_at + at, v, mask=inside)
    copy = tl.load(row + 6)
    if copy != 0:
        copy_at = tl.multiple_of(copy.to(tl.pointer_type(tl.bfloat16)), 8)
        tl.store(copy_at + at, p.to(tl.bfloat16), mask=inside)
