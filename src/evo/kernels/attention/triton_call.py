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

    def numbers(self) -> dict[str, float]:
        """What is passed along, by the names of the kernels' parameters."""
        s = self.stencil
        sizes = {"size": s.size or 0, "sinks": s.sinks, "dilation": s.dilation, "period": s.period or 1}
        return sizes | {"offset": self.offset, "scale": self.scale, "cap": abs(self.cap) or 1.0}

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
            "PRECISION": "ieee" if q.dtype == torch.float32 else "tf32",
        }


def loadable(x: Tensor) -> Tensor:
    """x itself where its rows, and its first element, lie at multiples of 16 bytes; else a copy that does."""
    x = aligned(x)
    return x if x.data_ptr() % 16 == 0 else x.clone()


def is_described(*tensors: Tensor) -> bool:
    """Whether Hopper's tensor copy engine loads these: halves, dense heads, and rows enough to pay for it."""
    q = tensors[0]
    if q.device.type != "cuda" or q.element_size() != 2 or q.shape[1] < DESCRIBED_ROWS:
        return False
    if torch.cuda.get_device_capability(q.device) < (9, 0):
        return False
    return all(x.data_ptr() % 16 == 0 and x.stride(2) == x.shape[3] and min(x.stride()) > 0 for x in tensors)


class Rows(TensorDescriptor):
    """A descriptor of what `is_described`: made at every launch, it does not repeat those checks."""

    def __post_init__(self) -> None:
        pass


def described(x: Tensor, rows: int) -> Rows:
    """What a kernel loads `rows` rows of one head at a time from, through the tensor copy engine."""
    B, T, H, D = x.shape
    b, t, _, _ = x.stride()
    return Rows(x, [B, T, H * D], [b, t, 1], [1, rows, D])


def whole(x: Tensor, rows: int) -> Tensor:
    """What a kernel loads rows from by their addresses."""
    return x


def strides(*loaded: Tensor) -> dict[str, int]:
    """Strides of batches, rows and heads of q, k, v and perhaps the output's gradient, as the kernels name them."""
    named = zip(("q", "k", "v", "do"), loaded, strict=False)
    return {f"{name}_{dim}": stride for name, x in named for dim, stride in zip("bth", x.stride(), strict=False)}


def bias_strides(bias: Tensor | None) -> dict[str, int]:
    """Of a `spread` bias, as the kernels name them."""
    found = (0, 0, 0, 0) if bias is None else bias.stride()
    return dict(zip(("bias_b", "bias_h", "bias_t", "bias_s"), found, strict=True))


def spread(bias: Tensor | None, B: int, H: int, T: int, S: int) -> Tensor | None:
    """The bias as (B, H, T, S), with strides of 0 where it broadcasts.

    Rows begin at multiples of 16 elements; Triton 3.6 makes wrong code for others on Hopper.
    """
    if bias is None:
        return None
    if bias.ndim and bias.shape[-1] > 1:
        bias = aligned(F.pad(bias, (0, -S % 16)))[..., :S]
    return bias.expand(B, H, T, S)
