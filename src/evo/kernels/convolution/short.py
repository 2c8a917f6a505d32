"""`short_convolution`: the causal depthwise convolution in front of a recurrence (Mamba, DeltaNet, Hyena)."""

from __future__ import annotations

from torch import Tensor

from evo.kernels.convolution.backends import TABLE
from evo.kernels.convolution.call import ACTIVATIONS, ConvolutionCall, ConvolutionExtras
from evo.kernels.dispatch import AUTO, choose
from evo.kernels.documents import check_segments
from evo.kernels.operators import needs_grad
from evo.kernels.triton_support import dtype_name


def short_convolution(
    x_BTD: Tensor,
    weight_DW: Tensor,
    *,
    bias_D: Tensor | None = None,
    activation: str | None = None,
    state_BWD: Tensor | None = None,
    segments_BT: Tensor | None = None,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor]:
    """y_t = act(bias + sum_w weight[:, w] x_{t - (W-1) + w}): the last tap multiplies the current token.

    `activation` is None or `silu`. `state_BWD` holds the W-1 inputs before x_0, (B, W-1, D), zeros when absent.
    `segments_BT` holds integer ids of packed documents: taps do not reach into the document before; the given state is
    the first document's, the returned one the last one's.
    Returns y (B, T, D) in x's dtype and the state after the last token. Raises ValueError on an unknown activation or
    shapes that do not fit, BackendError when a backend asked for by name cannot run the call.
    """
    extras = ConvolutionExtras(bias_D, state_BWD, segments_BT)
    call = plan(x_BTD, weight_DW, activation=activation, **extras._asdict())
    run = choose(TABLE, call, backend).backend.run
    return run(call, x_BTD, weight_DW, extras)


def plan(
    x: Tensor, weight: Tensor, *, activation: str | None = None, bias_D=None, state_BWD=None, segments_BT=None
) -> ConvolutionCall:
    """What these tensors (meta tensors do) ask for. `dispatch.choose` says which backend runs it, and why."""
    B, T, D = x.shape
    if weight.ndim != 2 or weight.shape[0] != D or weight.shape[1] == 0:
        raise ValueError(f"weight must be ({D}, W) with W >= 1, found {tuple(weight.shape)}")
    taps = weight.shape[1]
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; known: {', '.join(map(str, ACTIVATIONS))}")
    if bias_D is not None and bias_D.shape != (D,):
        raise ValueError(f"bias_D must be ({D},), found {tuple(bias_D.shape)}")
    if state_BWD is not None and state_BWD.shape != (B, taps - 1, D):
        raise ValueError(f"state must be {(B, taps - 1, D)}, found {tuple(state_BWD.shape)}")
    if segments_BT is not None:
        check_segments(segments_BT, (B, T))
    tensors = (x, weight, bias_D, state_BWD)
    return ConvolutionCall(
        device=x.device.type,
        dtype=dtype_name(x.dtype),
        batch=B,
        time=T,
        width=D,
        taps=taps,
        activation=activation,
        has_state=state_BWD is not None,
        has_segments=segments_BT is not None,
        needs_grad=needs_grad(*tensors),
    )
