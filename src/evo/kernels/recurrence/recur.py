"""`recur`: the one entrance to the recurrence family."""

from __future__ import annotations

from torch import Tensor

from evo.kernels.dispatch import AUTO, choose
from evo.kernels.documents import check_segments
from evo.kernels.operators import needs_grad
from evo.kernels.recurrence.backends import TABLE
from evo.kernels.recurrence.call import RecurrenceCall, RecurrenceExtras
from evo.kernels.triton_support import dtype_name


def recur(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    *,
    log_decay: Tensor | None = None,
    beta_BTH: Tensor | None = None,
    dplr: tuple[Tensor, Tensor] | None = None,
    bonus_HK: Tensor | None = None,
    scale: float | None = None,
    initial_state_BHKV: Tensor | None = None,
    segments_BT: Tensor | None = None,
    chunk: int = 64,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor]:
    """The outputs o (B, T, H, V) and the final state (B, H, K, V) of a recurrence over a matrix state:

        S_t = exp(log_decay_t) S_{t-1} + update(k_t, v_t), o_t = scale q_t S_t

    `log_decay` is None, (H,) per head, (B, T, H) per token or (B, T, H, K) per channel, that is per key dim (GLA's gk):
    natural logs, at most 0.
    The update is k^T v; with `beta_BTH` the delta rule on the decayed state; with `dplr` = (a, b), each (B, T, H, K),
    RWKV-7's generalised delta rule (a diagonal plus low-rank transition), where a reads the state before its decay.
    `bonus_HK` (RWKV-6) makes the output read the state before the write plus diag(u) k^T v. `recurrence/reference.py`
    has the equations. `scale` defaults to K ** -0.5. `segments_BT` holds integer ids of packed documents: where the id
    changes, the state begins anew. The initial state is the first document's, the final state the last one's. `chunk`,
    a power of two, matters for speed only.
    o has q's dtype; the state is float32 (float64 for float64 inputs). Raises ValueError on shapes that do not fit.
    """
    extras = RecurrenceExtras(log_decay, beta_BTH, dplr, bonus_HK, initial_state_BHKV, segments_BT)
    call = plan(q_BTHK, k_BTHK, v_BTHV, chunk=chunk, **extras._asdict())
    run = choose(TABLE, call, backend).backend.run
    scale = q_BTHK.shape[-1] ** -0.5 if scale is None else scale
    return run(call, q_BTHK, k_BTHK, v_BTHV, extras, scale)


def plan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    log_decay=None,
    beta_BTH=None,
    dplr=None,
    bonus_HK=None,
    initial_state_BHKV=None,
    segments_BT: Tensor | None = None,
    chunk: int = 64,
) -> RecurrenceCall:
    """What these tensors (meta tensors do) ask for. `dispatch.choose` says which backend runs it, and why."""
    _check(q, k, v, beta_BTH, dplr, bonus_HK, initial_state_BHKV)
    if segments_BT is not None:
        check_segments(segments_BT, q.shape[:2])
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"chunk must be a power of two, found {chunk}")
    B, T, H, K = q.shape
    tensors = [q, k, v, log_decay, beta_BTH, *(dplr or ()), bonus_HK, initial_state_BHKV]
    update = "dplr" if dplr is not None else "outer" if beta_BTH is None else "delta"
    return RecurrenceCall(
        device=q.device.type,
        dtype=dtype_name(q.dtype),
        batch=B,
        time=T,
        heads=H,
        key_dim=K,
        value_dim=v.shape[-1],
        decay=_decay_kind(log_decay, q, segments_BT is not None),
        update=update,
        has_bonus=bonus_HK is not None,
        has_state=initial_state_BHKV is not None,
        chunk=chunk,
        needs_grad=needs_grad(*tensors),
    )


def _decay_kind(log_decay: Tensor | None, q_BTHK: Tensor, has_documents: bool) -> str:
    """What the backends are given: borders between documents make any decay one per token."""
    if log_decay is None:
        return "token" if has_documents else "none"
    shapes = {"head": q_BTHK.shape[2:3], "token": q_BTHK.shape[:3], "channel": q_BTHK.shape}
    for kind, shape in shapes.items():
        if log_decay.shape == shape:
            return "token" if has_documents and kind == "head" else kind
    raise ValueError(
        f"log_decay must be (H,), (B, T, H) or (B, T, H, K) for q {tuple(q_BTHK.shape)}; found {tuple(log_decay.shape)}"
    )


def _check(q, k, v, beta_BTH, dplr, bonus_HK, state) -> None:
    if q.ndim != 4 or q.shape != k.shape or v.shape[:3] != q.shape[:3]:
        raise ValueError(f"q and k must be (B, T, H, K) and v (B, T, H, V); found {q.shape}, {k.shape}, {v.shape}")
    if beta_BTH is not None and (dplr is not None or bonus_HK is not None):
        raise ValueError("beta_BTH (the delta rule) goes with neither dplr nor bonus_HK")
    if beta_BTH is not None and beta_BTH.shape != q.shape[:3]:
        raise ValueError(f"beta_BTH must be {tuple(q.shape[:3])}, found {tuple(beta_BTH.shape)}")
    if dplr is not None and any(x.shape != q.shape for x in dplr):
        raise ValueError(f"dplr must be two tensors {tuple(q.shape)}, found {[tuple(x.shape) for x in dplr]}")
    if bonus_HK is not None and bonus_HK.shape != q.shape[2:]:
        raise ValueError(f"bonus_HK must be {tuple(q.shape[2:])}, found {tuple(bonus_HK.shape)}")
    if state is not None and state.shape != (q.shape[0], *q.shape[2:], v.shape[-1]):
        raise ValueError(f"initial_state must be (B, H, K, V) for q {tuple(q.shape)}, found {tuple(state.shape)}")
