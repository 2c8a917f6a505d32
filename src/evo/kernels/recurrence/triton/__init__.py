"""The Triton backends of recurrences: why they cannot run a call, and how they do. Importing this loads no triton.

Holds: `step` (the few tokens of a decoding step); for training, a file of operators for each member, `outer`, `delta`,
`channel` and `dplr`, with its kernels beside it (scans over chunks, gradients inside chunks); gradients of decays,
`head_decay` and `token_decay`; and `blocks`, the sizes that all take.
"""

from __future__ import annotations

from torch import Tensor

from evo.kernels.recurrence.call import DECAYS, UPDATES, RecurrenceCall
from evo.kernels.triton_support import machine_reasons, widened

Outcome = tuple[Tensor, Tensor]

MAX_DIM = 256


def reasons(problem: RecurrenceCall) -> list[str]:
    found = machine_reasons(problem.device, problem.dtype)
    if max(problem.key_dim, problem.value_dim) > MAX_DIM:
        found.append(f"head dims up to {MAX_DIM}, found {problem.key_dim} and {problem.value_dim}")
    return found


MAX_TOKENS = 16
"""Up to here one pass of dependent steps beats the fixed cost of a chunk."""


def step_reasons(problem: RecurrenceCall) -> list[str]:
    found = machine_reasons(problem.device, problem.dtype)
    if problem.time > MAX_TOKENS:
        found.append(f"steps are for up to {MAX_TOKENS} tokens, found {problem.time}")
    if problem.needs_grad:
        found.append("steps have no gradients")
    if max(problem.key_dim, problem.value_dim) > MAX_DIM:
        found.append(f"head dims up to {MAX_DIM}, found {problem.key_dim} and {problem.value_dim}")
    return found


def run(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict):
    """The signature that all backends share. Heads are widened with zeros to powers of two, which changes no number."""
    K, V = k.shape[3], v.shape[3]
    q, k, v = (widened(x.to(q.dtype)) for x in (q, k, v))
    log_decay, initial, bonus = parts["log_decay"], widened(parts["initial_state_BHKV"], 2), widened(parts["bonus_HK"])
    if problem.update == "dplr" or (problem.update, problem.decay) == ("delta", "channel"):
        from evo.kernels.recurrence.triton.dplr_operator import run as run_dplr

        beta, keep = parts["beta_BTH"], problem.needs_grad
        dplr = None if beta is not None else [widened(x.to(q.dtype)) for x in parts["dplr"]]
        decay = widened(log_decay) if problem.decay == "channel" else log_decay
        o, final = run_dplr(q, k, v, beta, dplr, decay, initial, scale, bonus is not None, keep)
    elif problem.decay == "channel":
        from evo.kernels.recurrence.triton.channel_operator import recur_channel

        o, final = recur_channel(q, k, v, widened(log_decay), bonus, initial, scale)[:2]
    elif problem.update == "delta":
        from evo.kernels.recurrence.triton.delta_operator import run as run_delta

        o, final = run_delta(q, k, v, parts["beta_BTH"], log_decay, initial, scale, problem.needs_grad)
    else:
        from evo.kernels.recurrence.triton.outer import recur_outer

        o, final = recur_outer(q, k, v, log_decay, initial, scale, bonus is not None)
    if bonus is not None and (problem.update == "dplr" or problem.decay != "channel"):
        o = o + ((q * bonus.to(q.dtype) * k).sum(-1, keepdim=True) * scale) * v
    return o[..., :V], final[..., :K, :V]


def run_step(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict):
    """The equation in one launch, through the signature that all backends share."""
    from evo.kernels.recurrence.triton.step import recur_step

    a, b = parts["dplr"] or (None, None)
    log_decay, beta, bonus, initial = (
        parts[name] for name in ("log_decay", "beta_BTH", "bonus_HK", "initial_state_BHKV")
    )
    decay, update = DECAYS.index(problem.decay), UPDATES.index(problem.update)
    return recur_step(q, k, v, log_decay, beta, a, b, bonus, initial, decay, update, scale)
