"""Launches of the attention kernels: tile sizes, strides, grids. Tensors in, tensors out, no autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.attention import triton_backward, triton_forward
from evo.kernels.attention.stencil import Stencil
from evo.kernels.attention.triton_tiles import KIND_CODES
from evo.kernels.triton_support import aligned, is_interpreting, padded


@dataclass(frozen=True)
class Tiles:
    """Rows of a query tile M, of a key tile N, warps and pipeline stages."""

    M: int
    N: int
    warps: int
    stages: int


FORWARD = {64: Tiles(128, 128, 8, 3), 128: Tiles(128, 64, 8, 3), 256: Tiles(64, 64, 8, 2)}
QUERY_GRADIENTS = {64: Tiles(128, 64, 8, 3), 128: Tiles(128, 64, 8, 2), 256: Tiles(64, 32, 8, 1)}
KEY_GRADIENTS = {64: Tiles(64, 128, 8, 3), 128: Tiles(64, 128, 8, 2), 256: Tiles(32, 64, 8, 1)}
SINGLE = {64: Tiles(64, 32, 4, 2), 128: Tiles(32, 32, 4, 2), 256: Tiles(32, 16, 8, 1)}


def tiles_for(table: dict[int, Tiles], dim: int, dtype: torch.dtype, rows: int) -> Tiles:
    """Tiles by the larger head dim; float32 takes small ones, since its products run outside the tensor cores."""
    if is_interpreting():
        return Tiles(64, 32, 4, 1)
    table = SINGLE if dtype == torch.float32 else table
    return next(table[size] for size in sorted(table) if dim <= size)


@dataclass(frozen=True)
class Call:
    """What is compiled in or passed along besides tensors. Made once a call, shared by forward and backward."""

    stencil: Stencil
    offset: int
    scale: float
    cap: float

    def numbers(self) -> tuple:
        """size, sinks, dilation, period, offset, scale, cap, in the order of the kernels."""
        s = self.stencil
        return s.size or 0, s.sinks, s.dilation, s.period or 1, self.offset, self.scale, self.cap or 1.0

    def parts(self, q: Tensor, k: Tensor, v: Tensor, slopes: Tensor | None, ids: Tensor | None) -> dict:
        return {
            "GROUP": q.shape[2] // k.shape[2],
            "KIND": KIND_CODES[self.stencil.kind],
            "CAUSAL": self.stencil.causal,
            "CAP": bool(self.cap),
            "ALIBI": slopes is not None,
            "SEGMENTS": ids is not None,
            "K": q.shape[3],
            "V": v.shape[3],
            "KP": padded(q.shape[3]),
            "VP": padded(v.shape[3]),
            "PRECISION": "ieee" if q.dtype == torch.float32 else "tf32",
        }


def strides(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:3]]


def launch_forward(q: Tensor, k: Tensor, v: Tensor, sink, slopes, ids_q, ids_k, call: Call) -> tuple[Tensor, Tensor]:
    """o (B, T, H, V) in q's dtype and lse (B, H, T) float32."""
    q, k, v = aligned(q), aligned(k), aligned(v)
    B, T, H, _ = q.shape
    o = torch.empty(B, T, H, v.shape[3], dtype=q.dtype, device=q.device)
    lse = torch.empty(B, H, T, dtype=torch.float32, device=q.device)
    if o.numel() == 0:
        return o, lse
    tiles = tiles_for(FORWARD, padded(max(q.shape[3], v.shape[3])), q.dtype, T)
    triton_forward.forward[(-(-T // tiles.M) * B * H,)](
        q, k, v, o, lse, sink, slopes, ids_q, ids_k, *strides(q, k, v, o), H, T, k.shape[1], *call.numbers(),
        **call.parts(q, k, v, slopes, ids_q), SINK=sink is not None, M=tiles.M, N=tiles.N,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return o, lse


def launch_backward(
    do: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, slopes, ids_q, ids_k, call
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dv like q, k, v, and delta (B, H, T) float32, of which a learned sink's gradient is made."""
    do, q, k, v, o = aligned(do), aligned(q), aligned(k), aligned(v), aligned(o)
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    delta = torch.empty_like(lse)
    B, T, H, _ = q.shape
    S, G = k.shape[1:3]
    if delta.numel() == 0 or k.numel() == 0:
        return dq.zero_(), dk.zero_(), dv.zero_(), delta.zero_()
    parts = call.parts(q, k, v, slopes, ids_q)
    dim = padded(max(q.shape[3], v.shape[3]))
    M = 64
    triton_backward.output_dots[(-(-T // M) * B * H,)](
        o, do, dlse, delta, *strides(o, do), H, T, parts["V"], parts["VP"], M, dlse is not None
    )
    tiles = tiles_for(QUERY_GRADIENTS, dim, q.dtype, T)
    triton_backward.query_gradients[(-(-T // tiles.M) * B * H,)](
        q, k, v, do, lse, delta, dq, slopes, ids_q, ids_k, *strides(q, k, v, do, dq), H, T, S, *call.numbers(),
        **parts, M=tiles.M, N=tiles.N, num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    tiles = tiles_for(KEY_GRADIENTS, dim, q.dtype, S)
    triton_backward.key_gradients[(-(-S // tiles.N) * B * G,)](
        q, k, v, do, lse, delta, dk, dv, slopes, ids_q, ids_k, *strides(q, k, v, do, dk, dv), H, T, S, *call.numbers(),
        **parts, M=tiles.M, N=tiles.N, num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return dq, dk, dv, delta
