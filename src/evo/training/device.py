"""Which device runs, and in which arithmetic."""

from __future__ import annotations

import contextlib
import os

import torch

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.engines.device import VISIBLE


def choose_device(wanted: str = "auto") -> torch.device:
    """The device asked for; `auto` takes CUDA, then MPS, then the CPU. Raises DiagnosticError (EVO510) if absent."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    kind = wanted.partition(":")[0]
    if not available.get(kind, False):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise DiagnosticError([Diagnostic("EVO510", f"no device '{wanted}' here", None, f"available: auto, {there}")])
    try:
        device = torch.device(wanted)
    except RuntimeError:
        help = "write cuda:0, cuda:1, ..."
        raise DiagnosticError([Diagnostic("EVO510", f"'{wanted}' is not a device", None, help)]) from None
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if device.index is not None and device.index >= count:
        help = f"this machine has {count}, counted from 0"
        raise DiagnosticError([Diagnostic("EVO510", f"no device '{wanted}' here", None, help)])
    return device


def gpus_to_share(device: str) -> tuple[str, ...]:
    """The GPUs that processes may be dealt out among, as CUDA_VISIBLE_DEVICES names them: all that this process sees,
    where the device is CUDA's without a number and there are several; otherwise none."""
    if device != "cuda" or (count := torch.cuda.device_count()) < 2:
        return ()
    named = os.environ.get(VISIBLE)
    return tuple(named.split(",")[:count] if named else map(str, range(count)))


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """The forward pass's arithmetic: `auto` is bf16 on CUDA and fp32 elsewhere."""
    if precision == "bf16" or (precision == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
