"""What this machine has, and what evo chooses on it: the choices themselves, asked of the code that makes them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from evo.kernels.triton_support import machine_reasons
from evo.training.device import autocast, choose_device

EXTRAS = {
    "ray": "searches on a cluster",
    "onnx": "evo export to ONNX",
    "pyarrow": "texts in Parquet",
    "tokenizers": "text as the tokens of a tokenizer.json",
    "gguf": "evo import of a GGUF file",
}
"""Optional packages, and what each is for."""


@dataclass(frozen=True)
class Line:
    """Something that was found, or chosen because of it. why: in a few words; empty where it needs none."""

    what: str
    value: str
    why: str = ""


def found() -> Iterator[Line]:
    """What there is."""
    yield Line("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    yield Line("torch", torch.__version__, f"{torch.get_num_threads()} threads of {os.cpu_count()} cores")
    yield Line("triton", _version("triton") or "not installed")
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        capability = f"compute capability {device.major}.{device.minor}"
        yield Line(f"cuda:{index}", device.name, f"{device.total_memory / 1e9:.0f} GB, {capability}")
    for name, use in EXTRAS.items():
        yield Line(name, _version(name) or "not installed", use)


def chosen(wanted: str = "auto") -> Iterator[Line]:
    """What evo does on a device. Raises DiagnosticError (EVO510) where it is not there."""
    device = choose_device(wanted)
    is_cuda = device.type == "cuda"
    yield Line("device", str(device), "asked for" if wanted != "auto" else "cuda, else mps, else cpu")
    is_half = _is_half(device)
    precision = "bf16 autocast over float32 weights" if is_half else "float32"
    yield Line("precision", precision, "train.precision: auto")
    reasons = machine_reasons(device.type, "bfloat16" if is_half else "float32")
    yield Line("kernels", "torch and our Triton kernels" if not reasons else "torch", "; ".join(reasons))
    steps = "captured in a CUDA graph where the task makes batches on the device" if is_cuda else "eager"
    yield Line("steps", steps, "" if is_cuda else "CUDA graphs need a CUDA device")
    yield Line("memory", _memory(device), "a step that finds none lets a living pool shrink, and is tried once more")


def _is_half(device: torch.device) -> bool:
    """Whether a forward pass is in bf16 there unless a document says otherwise."""
    with autocast(device, "auto"):
        return torch.is_autocast_enabled(device.type)


def _memory(device: torch.device) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free on the device"
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{free / 1e9:.1f} GB free"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
