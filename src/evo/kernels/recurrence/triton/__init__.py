"""The Triton backends of recurrences: why they cannot run a call, and how they do. Importing this loads no triton.

Holds: `step` (the few tokens of a decoding step); for training, a file of operators for each member, `outer`, `delta`,
`channel` and `dplr`, with its kernels beside it (scans over chunks, gradients inside chunks); gradients of decays,
`head_decay` and `token_decay`; and `blocks`, the sizes that all take.
"""

from __future__ import annotations

from torch import Tensor

from evo.kernels.recurrence.call import DECAYS, UPDATES, RecurrenceCall, RecurrenceExtras
from evo.kernels.triton_support import machine_reasons, pad_to_pow2

Outcome = tuple[Tensor, Tensor]

MAX_DIM = 256


def reasons(call: RecurrenceCall) -> list[str]:
    found = machine_reasons(call.device, call.dtype)
    if max(call.key_dim, call.value_dim) > MAX_DIM:
        found.append(f"head dims up to {MAX_DIM}, found {call.key_dim} and {call.value_dim}")
    return found


MAX_TOKENS = 16
"""Up to here one pass of dependent steps beats the fixed cost of a chunk."""


def step_reasons(call: RecurrenceCall) -> list[str]:
    found = machine_reasons(call.device, call.dtype)
    if call.time > MAX_TOKENS:
        found.append(f"steps are for up to {MAX_TOKENS} tokens, found {call.time}")
    if call.needs_grad:
        found.append("steps have no gradients")
    if max(call.key_dim, call.value_dim) > MAX_DIM:
        found.append(f"head dims up to {MAX_DIM}, found {call.key_dim} and {call.value_dim}")
    return found


def run(call: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, extras: RecurrenceExtras, scale: float):
    """The signature that all backends share. Heads are filled with zeros to powers of two, which changes nothing."""
    K, V = k.shape[3], v.shape[3]
    q, k, v = (pad_to_pow2(x.to(q.dtype)) for x in (q, k, v))
    log_decay, initial, bonus = (
        extras.log_decay,
        pad_to_pow2(extras.initial_state_BHKV, 2),
        pad_to_pow2(extras.bonus_HK),
    )
    if call.update == "dplr" or (call.update, call.decay) == ("delta", "channel"):
        from evo.kernels.recurrence.triton.dplr_operator import run as run_dplr

        beta, keep = extras.beta_BTH, call.needs_grad
        dplr = None if beta is not None else [pad_to_pow2(x.to(q.dtype)) for x in extras.dplr]
        decay = pad_to_pow2(log_decay) if call.decay == "channel" else log_decay
        o, final = run_dplr(q, k, v, beta, dplr, decay, initial, scale, bonus is not None, keep)
    elif call.decay == "channel":
        from evo.kernels.recurrence.triton.channel_operator import recur_channel

        o, final = recur_channel(q, k, v, pad_to_pow2(log_decay), bonus, initial, scale)[:2]
    elif call.update == "delta":
        from evo.kernels.recurrence.triton.delta_operator import run as run_delta

        o, final = run_delta(q, k, v, extras.beta_BTH, log_decay, initial, scale, call.needs_grad)
    else:
        from evo.kernels.recurrence.triton.outer import recur_outer

        o, final = recur_outer(q, k, v, log_decay, initial, scale, bonus is not None)
    if bonus is not None and (call.update == "dplr" or call.decay != "channel"):
        o = o + ((q * bonus.to(q.dtype) * k).sum(-1, keepdim=True) * scale) * v
    return o[..., :V], final[..., :K, :V]


def run_step(call: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, extras: RecurrenceExtras, scale: float):
    """The equation in one launch, through the signature that all backends share."""
    from evo.kernels.recurrence.triton.step import recur_step

    a, b = extras.dplr or (None, None)
    log_decay, beta, bonus, initial = extras.log_decay, extras.beta_BTH, extras.bonus_HK, extras.initial_state_BHKV
    decay, update = DECAYS.index(call.decay), UPDATES.index(call.update)
    return recur_step(q, k, v, log_decay, beta, a, b, bonus, initial, decay, update, scale)
