"""What an attention call hands to its kernels, and its launches: tensors in, tensors out, no autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from evo.kernels.attention.stencil import Stencil
from evo.kernels.attention.triton import backward, forward
from evo.kernels.attention.triton.launch_cache import Launch, LaunchCache, Source, specialization_key
from evo.kernels.attention.triton.stencil_tiles import KIND_CODES
from evo.kernels.attention.triton.tile_ops import Form
from evo.kernels.attention.triton.tiles import Tiles, preferred
from evo.kernels.triton_support import aligned

# Below this, making the descriptors costs more than they save.
TMA_ROWS = 512


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

    def form(self, q: Tensor, k: Tensor, v: Tensor, extras: Extras, tma: bool) -> Form:
        """What is compiled in."""
        s, alibi, packed, placed = (
            self.stencil,
            extras.slopes is not None,
            extras.ids_q is not None,
            extras.places is not None,
        )
        return Form(
            GROUP=q.shape[2] // k.shape[2],
            KIND=KIND_CODES[s.kind],
            CAUSAL=s.causal,
            CAP=bool(self.cap),
            ALIBI=alibi,
            ALIBI_IN_LSE=alibi and s.causal and s.kind != "prefix",
            SEGMENTS=packed,
            PLACES=placed,
            BIAS=extras.bias is not None,
            NO_MASK_TILES=not (packed or placed or s.kind in ("dilated", "ring")),
            K=q.shape[3],
            V=v.shape[3],
            TMA=tma,
            PRECISION="ieee" if q.dtype == torch.float32 else "tf32",
        )


def align16(x: Tensor) -> Tensor:
    """x itself where its rows, and its first element, lie at multiples of 16 bytes; else a copy that does."""
    x = aligned(x)
    return x if x.data_ptr() % 16 == 0 else x.clone()


def uses_tma(*tensors: Tensor) -> bool:
    """Whether Hopper's tensor copy engine loads these: halves, dense heads, and rows enough to pay for it."""
    q = tensors[0]
    if q.device.type != "cuda" or q.element_size() != 2 or q.shape[1] < TMA_ROWS:
        return False
    if torch.cuda.get_device_capability(q.device) < (9, 0):
        return False
    return all(x.data_ptr() % 16 == 0 and x.stride(2) == x.shape[3] and min(x.stride()) > 0 for x in tensors)


class TmaDescriptor(TensorDescriptor):
    """A descriptor of what `uses_tma`: made at every launch, it does not repeat those checks."""

    def __post_init__(self) -> None:
        pass


def tma_rows(x: Tensor, rows: int) -> TmaDescriptor:
    """What a kernel loads `rows` rows of one head at a time from, through the tensor copy engine."""
    B, T, H, D = x.shape
    b, t, _, _ = x.stride()
    return TmaDescriptor(x, [B, T, H * D], [b, t, 1], [1, rows, D])


def pointer(x: Tensor, rows: int) -> Tensor:
    """What a kernel loads rows from by their addresses."""
    return x


def strides(*loaded: Tensor) -> dict[str, int]:
    """Strides of batches, rows and heads of q, k, v and perhaps the output's gradient, as the kernels name them."""
    named = zip(("q", "k", "v", "do"), loaded, strict=False)
    return {f"{name}_{dim}": stride for name, x in named for dim, stride in zip("bth", x.stride(), strict=False)}


def bias_strides(bias: Tensor | None) -> dict[str, int]:
    """Strides of what `broadcast_bias` returned, as the kernels name them."""
    found = (0, 0, 0, 0) if bias is None else bias.stride()
    return dict(zip(("bias_b", "bias_h", "bias_t", "bias_s"), found, strict=True))


def broadcast_bias(bias: Tensor | None, B: int, H: int, T: int, S: int) -> Tensor | None:
    """The bias as (B, H, T, S), with strides of 0 where it broadcasts.

    Rows begin at multiples of 16 elements; Triton 3.6 makes wrong code for others on Hopper.
    """
    if bias is None:
        return None
    if bias.ndim and bias.shape[-1] > 1:
        bias = aligned(F.pad(bias, (0, -S % 16)))[..., :S]
    return bias.expand(B, H, T, S)


LAUNCHES = LaunchCache(1024)
"""Of this backend, in this process."""


@dataclass(frozen=True)
class LaunchKey:
    """One call's numbers and tensors beside q, k, v. `identity`: what decides on code and arguments."""

    call: Call
    extras: Extras
    identity: tuple


def launch(
    name: str, kernel: Any, key: LaunchKey, loaded: tuple[Tensor, ...], given: tuple, made: tuple,
    programs: Callable[[Tiles], int], **more: int,
) -> None:  # fmt: skip
    """Launch `kernel`, by `name` in the table of tiles, in as many `programs` as its tiles need.

    Its arguments are `loaded`, that is q, k, v and in the backward the output's gradient; what it reads besides, the
    bias last; what it writes; strides, numbers and the form that all kernels take; and `more` by name.
    """

    def tensors(rows: tuple[int, ...], source: Source) -> list:
        return [*map(source, loaded, rows), *given, *made]

    known = LAUNCHES.of(name, key.identity)
    if known.launch is not None:
        assert known.source is not None
        known.launch(*tensors(known.rows, known.source))
        return
    q, k, v, *_ = loaded
    source = tma_rows if uses_tma(*loaded) else pointer
    form = key.call.form(q, k, v, key.extras, source is tma_rows)
    rest = strides(*loaded) | bias_strides(given[-1]) | key.call.numbers() | more | {"FORM": form}
    rest |= {"H": q.shape[2], "T": q.shape[1], "S": k.shape[1]}

    def begin(tiles: Tiles) -> Launch:
        begun = Launch(kernel, (programs(tiles),), rest | tiles.options())
        begun(*tensors(rows_of(tiles), source))
        return begun

    tiles = preferred(name, q, form, tuple(more.items()), begin)
    known.rows, known.source = rows_of(tiles), source
    known.launch = begin(tiles)


def rows_of(tiles: Tiles) -> tuple[int, ...]:
    """Of q, k, v and the output's gradient."""
    return tiles.M, tiles.N, tiles.N, tiles.M


def launch_forward(q: Tensor, k: Tensor, v: Tensor, extras: Extras, call: Call) -> tuple[Tensor, Tensor]:
    """o (B, T, H, V) in q's dtype and lse (B, H, T) float32."""
    q, k, v = align16(q), align16(k), align16(v)
    B, T, H, _ = q.shape
    o = torch.empty(B, T, H, v.shape[3], dtype=q.dtype, device=q.device)
    lse = torch.empty(B, H, T, dtype=torch.float32, device=q.device)
    if o.numel() == 0:
        return o, lse
    bias = broadcast_bias(extras.bias, B, H, T, k.shape[1])
    given = extras.sink, extras.slopes, extras.ids_q, extras.ids_k, extras.places, bias
    key = LaunchKey(call, extras, (call, specialization_key(q, k, v, *given)))
    launch(
        "forward", forward.forward, key, (q, k, v), given, (o, lse), lambda tiles: -(-T // tiles.M) * B * H,
        SINK=extras.sink is not None,
    )  # fmt: skip
    return o, lse


@dataclass(frozen=True)
class Asked:
    """Which gradients a backward makes besides those of q, k and v."""

    sink: bool = False
    slopes: bool = False
    bias: bool = False


@dataclass(frozen=True)
class Gradients:
    """Gradients of q, k, v; and where asked for, those of the learned sink and of the slopes, (B, H, T), to be summed,
    and the bias's (B or 1, H or 1, T, S), float32. What was not asked for is empty."""

    dq: Tensor
    dk: Tensor
    dv: Tensor
    dsink: Tensor
    dslopes: Tensor
    dbias: Tensor


def empty_gradients(q: Tensor, k: Tensor, v: Tensor, lse: Tensor, bias: Tensor | None, asked: Asked) -> Gradients:
    """Room for the gradients."""
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    dsink, dslopes = (torch.empty_like(lse) if wanted else lse.new_empty(0) for wanted in (asked.sink, asked.slopes))
    if bias is None or not asked.bias:
        return Gradients(dq, dk, dv, dsink, dslopes, lse.new_empty(0))
    batches, heads = (1, 1, 1, 1, *bias.shape)[-4:-2]
    dbias = torch.empty(batches, heads, q.shape[1], k.shape[1], dtype=lse.dtype, device=lse.device)
    return Gradients(dq, dk, dv, dsink, dslopes, dbias)


def launch_backward(
    do: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor,
    extras: Extras, call: Call, asked: Asked,
) -> Gradients:  # fmt: skip
    """Gradients, from o and lse as `launch_forward` made them."""
    q, k, v, do, o = align16(q), align16(k), align16(v), align16(do), o.contiguous()
    out = empty_gradients(q, k, v, lse, extras.bias, asked)
    if lse.numel() == 0 or k.numel() == 0:
        for x in vars(out).values():
            x.zero_()
        return out
    (B, T, H, _), (S, G), loaded = q.shape, k.shape[1:3], (q, k, v, do)
    marks = extras.slopes, extras.ids_q, extras.ids_k, broadcast_bias(extras.bias, B, H, T, S)
    key = LaunchKey(call, extras, (call, asked, specialization_key(*loaded, o, lse, dlse, extras.sink, *marks)))
    stripes = -(-T // backward.STRIPE.value)
    lse_delta = torch.empty(B, H, stripes * backward.STRIPE.value, 2, dtype=lse.dtype, device=lse.device)
    launch(
        "query gradients", backward.query_gradients, key, loaded, (o, lse, dlse, extras.sink, *marks),
        (out.dq, lse_delta, out.dsink, out.dslopes), lambda tiles: -(-T // tiles.M) * B * H,
        DLSE=dlse is not None, DSINK=asked.sink, DSLOPE=asked.slopes,
    )  # fmt: skip
    launch(
        "key gradients", backward.key_gradients, key, loaded, (lse_delta, *marks), (out.dk, out.dv),
        lambda tiles: -(-S // tiles.N) * B * G,
    )  # fmt: skip
    if asked.bias:
        batches, heads = out.dbias.shape[:2]
        launch(
            "bias gradients", backward.bias_gradients, key, loaded, (lse_delta, *marks), (out.dbias,),
            lambda tiles: -(-T // tiles.M) * -(-S // tiles.N) * batches * heads, BATCHES=batches, HEADS=heads, B=B,
        )  # fmt: skip
    return out
