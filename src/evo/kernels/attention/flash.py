"""Attention through the package flash-attn-4 (kernels in the line of arXiv 2407.08608), where it is installed.

Its backward pass adds up dq in whatever order the programs end, unless the problem must repeat its bytes (5 to 20 %
slower on an H100).
"""

from __future__ import annotations

import importlib
import warnings
from functools import cache

import torch
from torch import Tensor

from evo.kernels.attention.call import AttentionCall, AttentionExtras
from evo.kernels.operators import in_transform

MODULE = "flash_attn.cute"
# On fewer rows torch's own call is as fast on an H100, and its launches cost the host less.
LONG = 2048
# Proven on an H100. The package takes every multiple of 8, but at 72 version 4.0.0b36 gave wrong gradients of q there.
DIMS = (32, 64, 96, 128)


def reasons(call: AttentionCall) -> list[str]:
    found = []
    if call.device != "cuda":
        found.append("runs on CUDA devices only")
    if call.dtype not in ("float16", "bfloat16"):
        found.append(f"takes float16 and bfloat16, found {call.dtype}")
    found += call.equation_reasons()
    if call.has_keep:
        found.append("multiplies no probabilities")
    plain = call.is_plain_causal or call.is_plain_full
    if not plain or call.has_soft_cap or call.has_sink_logits:
        found.append("taken for plain causal and full problems only")
    if call.batch == 0 or min(call.queries, call.keys) < LONG:
        found.append(f"not faster than torch's own call on fewer than {LONG} tokens")
    if call.key_dim not in DIMS or call.value_dim != call.key_dim:
        known = ", ".join(map(str, DIMS))
        found.append(f"keys and values have one head dim of {known}, found {call.key_dim} and {call.value_dim}")
    if torch.compiler.is_compiling():
        found.append("torch.compile cannot trace it")
    if in_transform():
        found.append("torch.func cannot transform it")
    return found or missing()


@cache
def missing() -> list[str]:
    """What this machine lacks. Importing the package takes seconds, so this is asked last."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] not in (9, 10):
        return ["flash-attn-4 needs a Hopper or Blackwell GPU"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(MODULE)
    except ImportError as failure:
        return [f"flash-attn-4 is not installed ({failure})"]
    return []


def run(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, extras: AttentionExtras, scale: float) -> Tensor:
    """The signature that all backends share."""
    del extras
    attention = importlib.import_module(MODULE).flash_attn_func
    causal, k, v = call.is_plain_causal, k.to(q.dtype), v.to(q.dtype)
    return attention(q, k, v, softmax_scale=scale, causal=causal, deterministic=call.must_repeat)[0]
