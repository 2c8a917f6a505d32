"""Triton kernel: the gradient of an embedding as a product with one-hot rows: dense, deterministic, without sorting."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["N", "tokens_each"])
def embed_backward(
    tokens, dout, shares, N, V, D, tokens_each,
    SPLIT: tl.constexpr, VS: tl.constexpr, DS: tl.constexpr, NS: tl.constexpr,
):  # fmt: skip
    """shares (programs of axis 2, V, D) float32: the sum of dout rows (N, D) by token, over `tokens_each` tokens each.

    SPLIT: a float32 row is cut into three bfloat16 parts, whose products with ones are exact.
    """
    v = tl.program_id(0) * VS + tl.arange(0, VS)
    d = tl.program_id(1) * DS + tl.arange(0, DS)
    first = tl.program_id(2).to(tl.int64) * tokens_each
    total = tl.zeros((VS, DS), tl.float32)
    for start in range(0, tokens_each, NS):
        n = first + start + tl.arange(0, NS)
        token = tl.load(tokens + n, mask=n < N, other=-1)
        x = tl.load(dout + n[:, None] * D + d[None, :], mask=(n[:, None] < N) & (d[None, :] < D), other=0.0)
        ones = v[:, None] == token[None, :]
        if SPLIT:
            hit = ones.to(tl.bfloat16)
            high = x.to(tl.bfloat16)
            x -= high.to(tl.float32)
            middle = x.to(tl.bfloat16)
            low = (x - middle.to(tl.float32)).to(tl.bfloat16)
            total += tl.dot(hit, low)
            total += tl.dot(hit, middle)
            total += tl.dot(hit, high)
        else:
            total += tl.dot(ones.to(x.dtype), x, input_precision="ieee")
    at = (tl.program_id(2).to(tl.int64) * V + v[:, None]) * D + d[None, :]
    tl.store(shares + at, total, mask=(v[:, None] < V) & (d[None, :] < D))
