"""Triton kernels: act(gate) * up and its backward, which computes the activation anew."""

import triton
import triton.language as tl


@triton.jit
def gelu_share(x):
    """sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), the share of x that gelu_tanh lets through; 0 without an overflow."""
    return 1.0 / (1.0 + tl.exp(tl.minimum(-1.5957691216057308 * x * (1.0 + 0.044715 * x * x), 80.0)))


@triton.jit
def activate(x, ACT: tl.constexpr):
    """act(x), float32; see ACTS. silu and the two approximations of gelu are x * sigmoid(...)."""
    if ACT == "relu":
        return tl.maximum(x, 0.0)
    if ACT == "relu2":
        return tl.maximum(x, 0.0) * tl.maximum(x, 0.0)
    if ACT == "gelu":
        return 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))
    if ACT == "identity":
        return x
    if ACT == "softplus":
        far = tl.exp(-tl.abs(x))  # log(1 + far) keeps no digits of a small far
        return tl.maximum(x, 0.0) + tl.where(far < 0.01, far * (1.0 - far * (0.5 - far / 3.0)), tl.log(1.0 + far))
    if ACT == "tanh":
        far, square = tl.exp(-2.0 * tl.abs(x)), x * x  # 1 - far keeps few digits near 0: there the series
        near = x * (1.0 - square * (0.3333333333333333 - square * (0.13333333333333333 - square * 0.05396825396825397)))
        return tl.where(tl.abs(x) < 0.2, near, tl.where(x < 0, -1.0, 1.0) * (1.0 - far) / (1.0 + far))
    if ACT == "sigmoid":
        return 1.0 / (1.0 + tl.exp(-x))
    if ACT == "gelu_tanh":
        return x * gelu_share(x)
    if ACT == "gelu_quick":
        return x / (1.0 + tl.exp(-1.702 * x))
    return x / (1.0 + tl.exp(-x))


@triton.jit
def slope(x, ACT: tl.constexpr):
    """d act(x) / dx, float32."""
    if ACT == "relu":
        return tl.where(x > 0, 1.0, 0.0)
    if ACT == "relu2":
        return 2.0 * tl.maximum(x, 0.0)
    if ACT == "gelu":
        return 0.5 * (1.0 + tl.math.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    if ACT == "identity":
        return tl.full(x.shape, 1.0, tl.float32)
    if ACT == "softplus":
        return 1.0 / (1.0 + tl.exp(-x))
    if ACT == "tanh":
        far = tl.exp(-2.0 * tl.abs(x))  # not 1 - tanh * tanh, of which little is left where tanh is near 1
        return 4.0 * far / ((1.0 + far) * (1.0 + far))
    if ACT == "gelu_tanh":
        share = gelu_share(x)
        return share * (1.0 + x * (1.0 - share) * 1.5957691216057308 * (1.0 + 0.134145 * x * x))
    if ACT == "gelu_quick":
        share = 1.0 / (1.0 + tl.exp(-1.702 * x))
        return share * (1.0 + 1.702 * x * (1.0 - share))
    if ACT == "sigmoid":
        far = tl.exp(-tl.abs(x))
        return far / ((1.0 + far) * (1.0 + far))
    sigmoid = 1.0 / (1.0 + tl.exp(-x))
    return sigmoid * (1.0 + x * (1.0 - sigmoid))


@triton.jit(do_not_specialize=["rows", "F", "gate_stride", "up_stride"])
def gated_forward(
    gate, up, out, rows, F, gate_stride, up_stride,
    ACT: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """out (rows, F) dense; gate and up have dense columns. F and strides count in units of UNIT elements, so that the
    compiler knows how wide it may load."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    inside = (row < rows) & (col < F * UNIT)
    g = tl.load(gate + row * (gate_stride * UNIT) + col, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * (up_stride * UNIT) + col, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * (F * UNIT) + col, (activate(g, ACT) * u).to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows", "F", "gate_stride", "up_stride"])
def gated_backward(
    dout, gate, up, dgate, dup, rows, F, gate_stride, up_stride,
    ACT: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """dgate and dup, the halves of a dense (rows, 2 F); dout (rows, F) dense. Units as in the forward."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    inside = (row < rows) & (col < F * UNIT)
    d = tl.load(dout + row * (F * UNIT) + col, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gate + row * (gate_stride * UNIT) + col, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * (up_stride * UNIT) + col, mask=inside, other=0.0).to(tl.float32)
    at = row * (2 * F * UNIT) + col
    tl.store(dgate + at, (d * u * slope(g, ACT)).to(dgate.dtype.element_ty), mask=inside)
    tl.store(dup + at, (d * activate(g, ACT)).to(dup.dtype.element_ty), mask=inside)
