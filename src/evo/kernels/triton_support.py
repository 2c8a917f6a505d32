"""What every Triton backend asks about the machine, without importing triton."""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch

DTYPES = ("float16", "bfloat16", "float32")
# A constant, since torch.compile traces the dispatch and cannot trace a search for modules.
IS_INSTALLED = importlib.util.find_spec("triton") is not None


@cache
def is_interpreting() -> bool:
    """Whether this process runs Triton kernels on the CPU, as the tests do. Results are the same kernels' results."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def dtype_name(dtype: torch.dtype) -> str:
    """As a kernel call is described: `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def machine_reasons(device: str, dtype: str) -> list[str]:
    """Why no Triton kernel of ours runs on this device with this dtype."""
    found = []
    if not IS_INSTALLED:
        found.append("triton is not installed")
    if device != "cuda" and not (device == "cpu" and is_interpreting()):
        found.append(f"Triton needs a CUDA device, found {device}")
    if dtype not in DTYPES:
        found.append(f"Triton kernels take {', '.join(DTYPES)}, found {dtype}")
    return found


def next_pow2(dim: int) -> int:
    """The tile side that holds `dim`: a power of two, at least 16."""
    return max(16, 1 << (dim - 1).bit_length())


def last_dim_contiguous(x):
    """x itself when its last dim is dense, else a dense copy."""
    return x if x.stride(-1) == 1 else x.contiguous()


def dense(x):
    """x with the strides of its shape; None stays None."""
    return None if x is None else x.contiguous()


def aligned(x):
    """x itself when its last dim is dense and all other strides are multiples of 16, else a dense copy.

    Only such rows are loaded in full vectors; and of the others, Triton 3.6 makes wrong code for some tiles on Hopper.
    """
    if x.stride(-1) == 1 and all(stride % 16 == 0 for stride in x.stride()[:-1]):
        return x
    return x.contiguous()


def pad_to_pow2(x, dims: int = 1):
    """x with its last `dims` dims filled with zeros up to the `next_pow2` size; None stays None."""
    if x is None:
        return None
    missing = [next_pow2(size) - size for size in reversed(x.shape[-dims:])]
    return torch.nn.functional.pad(x, [n for size in missing for n in (0, size)]) if any(missing) else x
