"""Outputs and grids of the attention kernels. Tensors in, tensors out, no autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.attention import triton_backward, triton_bias, triton_forward
from evo.kernels.attention.triton_call import Call, Extras, loadable, spread
from evo.kernels.attention.triton_settled import Problem, launch
from evo.kernels.triton_relaunch import facts


def launch_forward(q: Tensor, k: Tensor, v: Tensor, extras: Extras, call: Call) -> tuple[Tensor, Tensor]:
    """o (B, T, H, V) in q's dtype and lse (B, H, T) float32."""
    q, k, v = loadable(q), loadable(k), loadable(v)
    B, T, H, _ = q.shape
    o = torch.empty(B, T, H, v.shape[3], dtype=q.dtype, device=q.device)
    lse = torch.empty(B, H, T, dtype=torch.float32, device=q.device)
    if o.numel() == 0:
        return o, lse
    bias = spread(extras.bias, B, H, T, k.shape[1])
    given = extras.sink, extras.slopes, extras.ids_q, extras.ids_k, extras.places, bias
    problem = Problem(call, extras, (call, facts(q, k, v, *given)))
    launch(
        "forward", triton_forward.forward, problem, (q, k, v), given, (o, lse), lambda tiles: -(-T // tiles.M) * B * H,
        SINK=extras.sink is not None, PLACES=extras.places is not None,
    )  # fmt: skip
    return o, lse


@dataclass(frozen=True)
class Asked:
    """Which gradients a backward makes besides those of q, k and v."""

    sink: bool = False
    slopes: bool = False
    bias: bool = False


@dataclass(frozen=True)
class Gradients:
    """Gradients of q, k, v; and where asked for, those of the learned sink and of the slopes, (B, H, T), to be summed,
    and the bias's (B or 1, H or 1, T, S), float32. What was not asked for is empty."""

    dq: Tensor
    dk: Tensor
    dv: Tensor
    dsink: Tensor
    dslopes: Tensor
    dbias: Tensor


def empty_gradients(q: Tensor, k: Tensor, v: Tensor, lse: Tensor, bias: Tensor | None, asked: Asked) -> Gradients:
    """Room for the gradients."""
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    dsink, dslopes = (torch.empty_like(lse) if wanted else lse.new_empty(0) for wanted in (asked.sink, asked.slopes))
    if bias is None or not asked.bias:
        return Gradients(dq, dk, dv, dsink, dslopes, lse.new_empty(0))
    batches, heads = (1, 1, 1, 1, *bias.shape)[-4:-2]
    dbias = torch.empty(batches, heads, q.shape[1], k.shape[1], dtype=lse.dtype, device=lse.device)
    return Gradients(dq, dk, dv, dsink, dslopes, dbias)


def launch_backward(
    do: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor,
    extras: Extras, call: Call, asked: Asked,
) -> Gradients:  # fmt: skip
    """Gradients, from o and lse as `launch_forward` made them."""
    q, k, v, do, o = loadable(q), loadable(k), loadable(v), loadable(do), o.contiguous()
    out = empty_gradients(q, k, v, lse, extras.bias, asked)
    if lse.numel() == 0 or k.numel() == 0:
        for x in vars(out).values():
            x.zero_()
        return out
    (B, T, H, _), (S, G), loaded = q.shape, k.shape[1:3], (q, k, v, do)
    marks = extras.slopes, extras.ids_q, extras.ids_k, spread(extras.bias, B, H, T, S)
    problem = Problem(call, extras, (call, asked, facts(*loaded, o, lse, dlse, extras.sink, *marks)))
    stripes = -(-T // triton_backward.STRIPE.value)
    levels = torch.empty(B, H, stripes * triton_backward.STRIPE.value, 2, dtype=lse.dtype, device=lse.device)
    launch(
        "query gradients", triton_backward.query_gradients, problem, loaded, (o, lse, dlse, extras.sink, *marks),
        (out.dq, levels, out.dsink, out.dslopes), lambda tiles: -(-T // tiles.M) * B * H,
        DLSE=dlse is not None, DSINK=asked.sink, DSLOPE=asked.slopes,
    )  # fmt: skip
    launch(
        "key gradients", triton_backward.key_gradients, problem, loaded, (levels, *marks), (out.dk, out.dv),
        lambda tiles: -(-S // tiles.N) * B * G,
    )  # fmt: skip
    if asked.bias:
        batches, heads = out.dbias.shape[:2]
        launch(
            "bias gradients", triton_bias.bias_gradients, problem, loaded, (levels, *marks), (out.dbias,),
            lambda tiles: -(-T // tiles.M) * -(-S // tiles.N) * batches * heads, BATCHES=batches, HEADS=heads, B=B,
        )  # fmt: skip
    return out
