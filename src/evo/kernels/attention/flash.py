"""Attention through the package flash-attn-4 (kernels in the line of arXiv 2407.08608), where it is installed."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from evo.kernels.attention.problem import AttentionProblem

MODULE = "flash_attn.cute"
# On fewer rows its launches cost the host more than its kernels save; torch's own call takes those.
LONG = 2048
MAX_DIM = 128


def reasons(problem: AttentionProblem) -> list[str]:
    found = []
    if problem.device != "cuda":
        found.append("runs on CUDA devices only")
    elif not is_installed():
        found.append("flash-attn-4 is not installed")
    if problem.dtype not in ("float16", "bfloat16"):
        found.append(f"takes float16 and bfloat16, found {problem.dtype}")
    plain = problem.is_plain_causal or problem.is_plain_full
    if not plain or problem.has_soft_cap or problem.has_sink_logits:
        found.append("taken for plain causal and full problems only")
    if problem.batch == 0 or min(problem.queries, problem.keys) < LONG:
        found.append(f"slower than torch's own call on fewer than {LONG} tokens")
    if max(problem.key_dim, problem.value_dim) > MAX_DIM or problem.key_dim % 8 or problem.value_dim % 8:
        found.append(f"head dims are multiples of 8 up to {MAX_DIM}, found {problem.key_dim} and {problem.value_dim}")
    if torch.compiler.is_compiling():
        found.append("torch.compile cannot trace it")
    return found


@cache
def is_installed() -> bool:
    """Whether the package is there and this GPU is of the generations it is written for (Hopper and Blackwell)."""
    if not (find_spec("flash_attn") and find_spec(MODULE) and torch.cuda.is_available()):
        return False
    return torch.cuda.get_device_capability()[0] in (9, 10)


def run(problem: AttentionProblem, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Tensor:
    """The signature that all backends share. The backward pass is asked to give the same bytes every time."""
    del parts
    call = importlib.import_module(MODULE).flash_attn_func
    k, v = k.to(q.dtype), v.to(q.dtype)
    return call(q, k, v, softmax_scale=scale, causal=problem.is_plain_causal, deterministic=True)[0]
