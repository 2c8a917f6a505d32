"""Launches of the attention kernels: grids and outputs. Tensors in, tensors out, no autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.attention import triton_backward, triton_bias, triton_forward
from evo.kernels.attention.triton_call import Call, Extras, is_described, source, spread, strides
from evo.kernels.attention.triton_sizes import Tiles, launch
from evo.kernels.triton_support import aligned


def launch_forward(q: Tensor, k: Tensor, v: Tensor, extras: Extras, call: Call) -> tuple[Tensor, Tensor]:
    """o (B, T, H, V) in q's dtype and lse (B, H, T) float32."""
    q, k, v = aligned(q), aligned(k), aligned(v)
    B, T, H, _ = q.shape
    S = k.shape[1]
    o = torch.empty(B, T, H, v.shape[3], dtype=q.dtype, device=q.device)
    lse = torch.empty(B, H, T, dtype=torch.float32, device=q.device)
    if o.numel() == 0:
        return o, lse
    bias, steps = spread(extras.bias, B, H, T, S)
    parts = call.parts(q, k, v, extras) | {"SINK": extras.sink is not None, "PLACES": extras.places is not None}

    def run(tiles: Tiles) -> None:
        triton_forward.forward[(-(-T // tiles.M) * B * H,)](
            source(q, tiles.M, parts), source(k, tiles.N, parts), source(v, tiles.N, parts), o, lse,
            extras.sink, extras.slopes, extras.ids_q, extras.ids_k, extras.places, bias,
            *strides(q, k, v, o), *steps, H, T, S, *call.numbers(), **parts, **tiles.options(),
        )  # fmt: skip

    launch("forward", q, parts, run)
    return o, lse


@dataclass(frozen=True)
class Gradients:
    """Gradients of q, k, v; delta (B, H, T), of which a learned sink's gradient is made; and, where asked for, slopes'
    (B, H, T), to be summed, and the bias's (B or 1, H or 1, T, S), float32. What was not asked for is empty."""

    dq: Tensor
    dk: Tensor
    dv: Tensor
    delta: Tensor
    dslopes: Tensor
    dbias: Tensor


def empty_gradients(q: Tensor, k: Tensor, v: Tensor, lse: Tensor, bias: Tensor | None, slopes: bool) -> Gradients:
    """Room for the gradients; a `bias` is given where its gradient is asked for."""
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    dslopes = torch.empty_like(lse) if slopes else lse.new_empty(0)
    if bias is None:
        return Gradients(dq, dk, dv, torch.empty_like(lse), dslopes, lse.new_empty(0))
    batches, heads = (1, 1, *bias.shape)[-4:-2]
    dbias = torch.empty(batches, heads, q.shape[1], k.shape[1], dtype=lse.dtype, device=lse.device)
    return Gradients(dq, dk, dv, torch.empty_like(lse), dslopes, dbias)


def launch_backward(
    do: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor,
    extras: Extras, call: Call, slopes: bool, biased: bool,
) -> Gradients:  # fmt: skip
    """Gradients, those of slopes and of the bias only where asked for."""
    do, q, k, v, o = aligned(do), aligned(q), aligned(k), aligned(v), aligned(o)
    out = empty_gradients(q, k, v, lse, extras.bias if biased else None, slopes)
    if lse.numel() == 0 or k.numel() == 0:
        for x in vars(out).values():
            x.zero_()
        return out
    parts = call.parts(q, k, v, extras)
    parts["DESCRIBED"] = parts["DESCRIBED"] and is_described(do)
    _launch_query_gradients(out, do, dlse, q, k, v, o, lse, extras, call, parts)
    _launch_key_gradients(out, do, q, k, v, lse, extras, call, parts)
    if biased:
        _launch_bias_gradients(out, do, q, k, v, lse, extras, call, parts)
    return out


def _launch_query_gradients(out, do, dlse, q, k, v, o, lse, extras: Extras, call: Call, parts: dict) -> None:
    (B, T, H, _), S = q.shape, k.shape[1]
    bias, steps = spread(extras.bias, B, H, T, S)
    parts = parts | {"DLSE": dlse is not None, "DSLOPE": out.dslopes.numel() > 0}

    def run(tiles: Tiles) -> None:
        M, N = tiles.M, tiles.N
        triton_backward.query_gradients[(-(-T // M) * B * H,)](
            source(q, M, parts), source(k, N, parts), source(v, N, parts), o, source(do, M, parts), lse, dlse,
            out.delta, out.dq, out.dslopes, extras.slopes, extras.ids_q, extras.ids_k, bias,
            *strides(q, k, v, o, do, out.dq), *steps, H, T, S, *call.numbers(), **parts, **tiles.options(),
        )  # fmt: skip

    launch("query gradients", q, parts, run)


def _launch_key_gradients(out, do, q, k, v, lse, extras: Extras, call: Call, parts: dict) -> None:
    (B, T, H, _), (S, G) = q.shape, k.shape[1:3]
    bias, steps = spread(extras.bias, B, H, T, S)

    def run(tiles: Tiles) -> None:
        M, N = tiles.M, tiles.N
        triton_backward.key_gradients[(-(-S // N) * B * G,)](
            source(q, M, parts), source(k, N, parts), source(v, N, parts), source(do, M, parts), lse, out.delta,
            out.dk, out.dv, extras.slopes, extras.ids_q, extras.ids_k, bias,
            *strides(q, k, v, do, out.dk, out.dv), *steps, H, T, S, *call.numbers(), **parts, **tiles.options(),
        )  # fmt: skip

    launch("key gradients", q, parts, run)


def _launch_bias_gradients(out, do, q, k, v, lse, extras: Extras, call: Call, parts: dict) -> None:
    (B, T, H, _), S = q.shape, k.shape[1]
    bias, steps = spread(extras.bias, B, H, T, S)
    batches, heads = out.dbias.shape[:2]

    def run(tiles: Tiles) -> None:
        M, N = tiles.M, tiles.N
        triton_bias.bias_gradients[(-(-T // M) * -(-S // N) * batches * heads,)](
            source(q, M, parts), source(k, N, parts), source(v, N, parts), source(do, M, parts), lse, out.delta,
            out.dbias, extras.slopes, extras.ids_q, extras.ids_k, bias, *strides(q, k, v, do), *steps,
            batches, heads, B, H, T, S, *call.numbers(), **parts, **tiles.options(),
        )  # fmt: skip

    launch("bias gradients", q, parts, run)
