"""What an attention call hands to its kernels besides q, k and v: extra tensors, numbers, compiled-in constants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from evo.kernels.attention.stencil import Stencil
from evo.kernels.attention.triton_tiles import KIND_CODES
from evo.kernels.triton_support import aligned

# Below this, making the descriptors costs more than they save.
DESCRIBED_ROWS = 512


@dataclass(frozen=True)
class Extras:
    """Tensors beside q, k, v: learned sinks (H), ALiBi slopes (H), a bias that broadcasts to (B, H, T, S), positions
    of the keys (S) int64, and the documents of queries (B, T) and of keys (B, S), integers."""

    sink: Tensor | None = None
    slopes: Tensor | None = None
    bias: Tensor | None = None
    places: Tensor | None = None
    ids_q: Tensor | None = None
    ids_k: Tensor | None = None


@dataclass(frozen=True)
class Call:
    """What is compiled in or passed along besides tensors. Made once a call, shared by forward and backward."""

    stencil: Stencil
    offset: int
    scale: float
    cap: float

    def numbers(self) -> tuple:
        """size, sinks, dilation, period, offset, scale, cap, in the order of the kernels."""
        s = self.stencil
        return s.size or 0, s.sinks, s.dilation, s.period or 1, self.offset, self.scale, abs(self.cap) or 1.0

    def parts(self, q: Tensor, k: Tensor, v: Tensor, extras: Extras) -> dict:
        """The constants that are compiled in, by name."""
        s, alibi, packed = self.stencil, extras.slopes is not None, extras.ids_q is not None
        return {
            "GROUP": q.shape[2] // k.shape[2],
            "KIND": KIND_CODES[s.kind],
            "CAUSAL": s.causal,
            "CAP": bool(self.cap),
            "ALIBI": alibi,
            "FOLDED": alibi and s.causal and s.kind != "prefix",
            "SEGMENTS": packed,
            "BIAS": extras.bias is not None,
            "FREE": not (packed or extras.places is not None or s.kind in ("dilated", "ring")),
            "K": q.shape[3],
            "V": v.shape[3],
            "DESCRIBED": is_described(q, k, v),
            "PRECISION": "ieee" if q.dtype == torch.float32 else "tf32",
        }


def is_described(*tensors: Tensor) -> bool:
    """Whether Hopper's tensor copy engine loads these: halves, dense heads, and rows enough to pay for it."""
    q = tensors[0]
    if q.device.type != "cuda" or q.element_size() != 2 or q.shape[1] < DESCRIBED_ROWS:
        return False
    if torch.cuda.get_device_capability(q.device) < (9, 0):
        return False
    return all(x.data_ptr() % 16 == 0 and x.stride(2) == x.shape[3] and min(x.stride()) > 0 for x in tensors)


def source(x: Tensor, rows: int, parts: dict) -> Tensor | TensorDescriptor:
    """What a kernel loads `rows` rows of one head at a time from."""
    if not parts["DESCRIBED"]:
        return x
    B, T, H, D = x.shape
    return TensorDescriptor(x, [B, T, H * D], [x.stride(0), x.stride(1), 1], [1, rows, D])


def strides(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:3]]


def spread(bias: Tensor | None, B: int, H: int, T: int, S: int) -> tuple[Tensor | None, tuple[int, ...]]:
    """The bias and its strides as (B, H, T, S), 0 where it broadcasts.

    Rows begin at multiples of 16 elements; Triton 3.6 makes wrong code for others on Hopper.
    """
    if bias is None:
        return None, (0, 0, 0, 0)
    if bias.shape[-1] > 1:
        bias = aligned(F.pad(bias, (0, -S % 16)))[..., :S]
    return bias, bias.expand(B, H, T, S).stride()
