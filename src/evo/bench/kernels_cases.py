"""What `evo bench kernels` times: each case is an operation of ours, the best public kernel for it, and its inputs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.experts.met import Met
from evo.kernels.attention import Stencil, attend
from evo.kernels.convolution import short_convolution
from evo.kernels.fused import gated
from evo.kernels.grouped import Groups, grouped_product
from evo.kernels.recurrence import recur
from evo.kernels.scan import scan

Call = Callable[..., Tensor]
DTYPE = torch.bfloat16
TOKEN_DECAYS = ("ssd", "gated delta")
CHANNEL_DECAYS = ("gla", "rwkv6", "channel delta", "rwkv7")
# The log decay of RWKV-7 is -exp(-0.5) sigmoid(w), 2503.14456; its peer is told so and takes its faster path.
RWKV7_FASTEST = 0.606531


@dataclass(frozen=True)
class Case:
    """`make(B, T, H)` gives the inputs; `ours`, `peer` and `exact` (our definition) map them to one output."""

    name: str
    shape: tuple[int, int, int]
    peer_name: str
    make: Callable[[int, int, int], list[Tensor]]
    ours: Call
    exact: Call
    peer: Callable[[], Call]
    graph: bool = False


def normal(*shape: int, dtype: torch.dtype = DTYPE) -> Tensor:
    return torch.randn(shape, device="cuda", dtype=dtype)


def cases() -> Iterator[Case]:
    """Every row of the table, recurrences first and what is not attention last."""
    narrow, wide = ("retention", "ssd"), ("gla", "rwkv6", "delta", "gated delta", "channel delta", "rwkv7")
    for member in (*narrow, *wide):
        yield recurrence(member, (8, 8192, 16), 128)
    for T, in_graph in ((2048, False), (256, True)):
        for member in (*narrow, *wide):
            yield recurrence(member, (8, T, 16), 64 if member in narrow else 128, graph=in_graph)
    yield attention("window 1024", (4, 8192, 16), 128, Stencil("window", 1024))
    yield attention("window 1024 and 4 sinks", (4, 8192, 16), 128, Stencil("window", 1024, sinks=4))
    yield attention("blocks of 256", (4, 8192, 16), 128, Stencil("block", 256), seen=in_blocks(256))
    yield attention("prefix 1024", (4, 8192, 16), 128, Stencil("prefix", 1024), seen=after_prefix(1024))
    for shape, dim, in_graph in (((8, 2048, 16), 64, False), ((8, 2048, 16), 64, True), ((4, 8192, 16), 128, False)):
        yield attention("soft cap", shape, dim, Stencil(), soft_cap=30.0, graph=in_graph)
        yield attention("ALiBi", shape, dim, Stencil(), alibi=True, graph=in_graph)
        yield attention("learned sink", shape, dim, Stencil(), sink=True, graph=in_graph)
    yield plain((8, 2048, 16), 128, causal=True)
    yield plain((8, 2048, 16), 128, causal=False)
    yield taps((8, 2048, 16), 128)
    yield recurrence("ssd", (8, 2048, 32), 128, values=64)
    yield experts((1, 32768, 64), 1024, 2048)
    yield mixture((1, 8192, 64), 2048, 1024, top=8)
    yield mixture((1, 16384, 8), 1024, 2816, top=2)
    for shape, state in (((4, 2048, 1536), 16), ((1, 2048, 1536), 64), ((8, 2048, 1024), 1)):
        yield channel_scan(shape, state, "doubling", lambda: scanned("doubling"))
    # torch's own scan of the two larger ones was still compiling after 390 s.
    yield channel_scan((8, 2048, 1024), 1, "associative_scan", associative_scan)


@cache
def retention_rates(heads: int) -> Tensor:
    """RetNet's constant log decays (H,), made once so that no timing holds them."""
    return torch.log(1 - 2.0 ** (-5 - torch.arange(heads, device="cuda").float()))


@cache
def alibi_slopes(heads: int, dtype: torch.dtype) -> Tensor:
    """Constant slopes (H,), made once so that no timing holds them."""
    return (2.0 ** -torch.linspace(0.5, 8, heads, device="cuda")).to(dtype)


def title(name: str, shape: tuple[int, int, int], dim: int, graph: bool = False) -> str:
    B, T, H = shape
    return f"{name}{' in a CUDA graph' if graph else ''} ({B}, {T}, {H}, {dim})"


def recurrence(
    member: str, shape: tuple[int, int, int], dim: int, graph: bool = False, values: int | None = None
) -> Case:
    """One member of the recurrence family beside flash-linear-attention's chunked kernel.

    values: of a head; Mamba-2 has 64 beside 128 keys. As many as keys if left out.
    """

    def make(B: int, T: int, H: int) -> list[Tensor]:
        keys = F.normalize(normal(B, T, H, dim, dtype=torch.float32), dim=-1).to(DTYPE)
        found = [normal(B, T, H, dim), keys, normal(B, T, H, values or dim)]
        if member == "rwkv7":
            removed = F.normalize(normal(B, T, H, dim, dtype=torch.float32), dim=-1)
            written = removed * torch.rand(B, T, H, dim, device="cuda")
            decay = -RWKV7_FASTEST * torch.sigmoid(normal(B, T, H, dim, dtype=torch.float32))
            return [*found, decay, -removed.to(DTYPE), written.to(DTYPE)]
        if member in TOKEN_DECAYS + CHANNEL_DECAYS:
            width = (dim,) if member in CHANNEL_DECAYS else ()
            found.append(-0.1 * torch.rand(B, T, H, *width, device="cuda"))
        if "delta" in member:
            found.append(torch.rand(B, T, H, device="cuda"))
        if member == "rwkv6":
            found.append(normal(H, dim, dtype=torch.float32))
        return found

    def named(given: tuple[Tensor, ...], heads: int) -> dict[str, Any]:
        rest = list(given)
        parts: dict[str, Any] = {"log_decay": retention_rates(heads)} if member == "retention" else {}
        if member in TOKEN_DECAYS + CHANNEL_DECAYS:
            parts["log_decay"] = rest.pop(0)
        if member == "rwkv7":
            parts["dplr"] = (rest.pop(0), rest.pop(0))
        if "delta" in member:
            parts["beta_BTH"] = rest.pop(0)
        if member == "rwkv6":
            parts["bonus_HK"] = rest.pop(0)
        return parts

    def through(backend: str) -> Call:
        return lambda q, k, v, *rest: recur(q, k, v, **named(rest, q.shape[2]), backend=backend)[0]

    called = title(member if values is None else f"{member} to {values} values", shape, dim, graph)
    return Case(called, shape, "fla", make, through("triton"), through("chunked"), lambda: _fla(member), graph)


def _fla(member: str) -> Call:
    ops: Any = importlib.import_module("fla.ops")
    if member == "retention":
        return lambda q, k, v: ops.retention.chunk_retention(q, k, v)[0]
    if member == "ssd":
        return lambda q, k, v, g: ops.simple_gla.chunk_simple_gla(q, k, v, g)[0]
    if member == "gla":
        return lambda q, k, v, g: ops.gla.chunk_gla(q, k, v, g)[0]
    if member == "rwkv6":
        return lambda q, k, v, g, u: ops.rwkv6.chunk_rwkv6(q, k, v, g, u)[0]
    if member == "rwkv7":
        bound = {"lower_bound": -RWKV7_FASTEST}
        return lambda q, k, v, g, a, b: ops.rwkv7.chunk_rwkv7(q, g, k, v, a, b, q.shape[-1] ** -0.5, **bound)[0]
    if member == "channel delta":
        return lambda q, k, v, g, beta: ops.kda.chunk_kda(q, k, v, g, beta, safe_gate=True)[0]
    if member == "delta":
        return lambda q, k, v, beta: ops.delta_rule.chunk_delta_rule(q, k, v, beta.to(q.dtype))[0]
    return lambda q, k, v, g, beta: ops.gated_delta_rule.chunk_gated_delta_rule(q, k, v, g, beta)[0]


def attention(
    name: str,
    shape: tuple[int, int, int],
    dim: int,
    stencil: Stencil,
    *,
    soft_cap: float | None = None,
    alibi: bool = False,
    sink: bool = False,
    graph: bool = False,
    seen: Call | None = None,
) -> Case:
    """Attention with something the vendor path lacks beside FlexAttention, compiled.

    seen: the peer's mask, if the stencil is neither full nor a window.
    """

    def make(B: int, T: int, H: int) -> list[Tensor]:
        found = [normal(B, T, H, dim) for _ in range(3)]
        return [*found, normal(H, dtype=torch.float32)] if sink else found

    def through(backend: str) -> Call:
        def run(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> Tensor:
            exact = q.dtype if q.dtype.itemsize == 8 else torch.float32
            rates = alibi_slopes(q.shape[2], exact) if alibi else None
            sinks = rest[0] if sink else None
            parts: dict[str, Any] = {"soft_cap": soft_cap, "sink_logits_H": sinks, "alibi_slopes_H": rates}
            return attend(q, k, v, stencil=stencil, backend=backend, **parts)

        return run

    peer = lambda: _flex(shape, seen or in_window(stencil, shape[1]), soft_cap, alibi, sink)  # noqa: E731
    called = title(name, shape, dim, graph)
    return Case(called, shape, "FlexAttention", make, through("triton"), through("reference"), peer, graph)


def in_window(stencil: Stencil, T: int) -> Call:
    """The causal window of a stencil with its sinks, or everything causal, as a mask of FlexAttention."""
    span = stencil.size or T
    return lambda b, h, t, s: (t >= s) & ((t - s < span) | (s < stencil.sinks))


def in_blocks(size: int) -> Call:
    """What is causal within a block, as a mask of FlexAttention."""
    return lambda b, h, t, s: (t >= s) & (t // size == s // size)


def after_prefix(size: int) -> Call:
    """What is causal, and a prefix that all see, as a mask of FlexAttention."""
    return lambda b, h, t, s: (t >= s) | (s < size)


def _flex(shape: tuple[int, int, int], seen: Call, soft_cap: float | None, alibi: bool, sink: bool) -> Call:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    T = shape[1]

    def capped(x, b, h, t, s):
        assert soft_cap is not None
        return soft_cap * torch.tanh(x / soft_cap)

    rates = alibi_slopes(shape[2], torch.float32)

    def sloped(x, b, h, t, s):
        return x - rates[h] * (t - s)

    torch._dynamo.reset()  # each case has its own score function; dynamo gives up on compiling after eight
    block_mask = create_block_mask(seen, None, None, T, T, device="cuda")
    compiled = torch.compile(flex_attention, dynamic=False)
    change = capped if soft_cap else sloped if alibi else None
    heads_first = lambda *xs: (x.transpose(1, 2) for x in xs)  # noqa: E731

    def run(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> Tensor:
        if not sink:
            return compiled(*heads_first(q, k, v), score_mod=change, block_mask=block_mask).transpose(1, 2)
        o, lse = compiled(*heads_first(q, k, v), block_mask=block_mask, return_lse=True)
        return (o * torch.sigmoid(lse - rest[0][:, None])[..., None].to(o.dtype)).transpose(1, 2)

    return run


def plain(shape: tuple[int, int, int], dim: int, causal: bool) -> Case:
    """Plain attention: our dispatch and torch's own call must be the same path."""

    def torchs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)

    def through(backend: str) -> Call:
        return lambda q, k, v: attend(q, k, v, stencil=Stencil(causal=causal), backend=backend)

    make = lambda B, T, H: [normal(B, T, H, dim) for _ in range(3)]  # noqa: E731
    name = title("causal" if causal else "full", shape, dim)
    return Case(name, shape, "SDPA", make, through("auto"), through("reference"), lambda: torchs)


def taps(shape: tuple[int, int, int], dim: int, width: int = 4) -> Case:
    """The short convolution with silu, heads side by side, beside torch.compile of the sum of shifted inputs."""

    def make(B: int, T: int, H: int) -> list[Tensor]:
        return [normal(B, T, H * dim), normal(H * dim, width, dtype=torch.float32)]

    def through(backend: str) -> Call:
        return lambda x, weight: short_convolution(x, weight, activation="silu", backend=backend)[0]

    peer = lambda: torch.compile(through("reference"), dynamic=False)  # noqa: E731
    name = title(f"short convolution of {width}", shape, dim)
    return Case(name, shape, "torch.compile", make, through("triton"), through("reference"), peer)


@cache
def uneven(rows: int, experts: int) -> Tensor:
    """How many rows each expert has, (E,) int64: the last about twice as many as the mean, the first hardly any."""
    ends = torch.arange(1, experts + 1, device="cuda").square() * rows // experts**2
    return ends.diff(prepend=ends.new_zeros(1))


def experts(shape: tuple[int, int, int], inner: int, outer: int) -> Case:
    """(1, rows, experts): rows sorted by expert through its matrix, beside torch's grouped product with its gradients.

    Ours is made of the same product, so this holds what stands around it.
    """

    def make(B: int, T: int, H: int) -> list[Tensor]:
        return [normal(B * T, inner), normal(H, outer, inner)]

    def through(backend: str) -> Call:
        return lambda x, weight: grouped_product(x, weight, Groups(uneven(len(x), len(weight)), backend))

    def torchs(x: Tensor, weight: Tensor) -> Tensor:
        return F.grouped_mm(x, weight.mT, offs=uneven(len(x), len(weight)).cumsum(0).to(torch.int32))

    name = f"{shape[2]} experts ({shape[1]}, {inner} to {outer})"
    return Case(name, shape, "grouped_mm", make, through("auto"), through("reference"), lambda: torchs)


@cache
def scattered(rows: int, top: int, experts: int) -> Tensor:
    """The experts of each row, (rows, top) int64, all of a row different and about as many rows for each expert."""
    ranks = torch.rand(rows, experts, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    return ranks.argsort(-1)[:, :top]


def mixture(shape: tuple[int, int, int], width: int, hidden: int, top: int) -> Case:
    """(1, rows, experts): the weighed sum of what each row's `top` SwiGLU experts give, beside Liger's fused kernels.

    Ours is what stands in the block behind its router, but for one product of both halves where the block has two.
    """

    def make(B: int, T: int, H: int) -> list[Tensor]:
        first, second = normal(H, 2 * hidden, width) * width**-0.5, normal(H, width, hidden) * hidden**-0.5
        return [normal(B * T, width), first, second, torch.rand(B * T, top, device="cuda").to(DTYPE)]

    def through(backend: str, fused: str) -> Call:
        def run(x: Tensor, first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
            met = Met(scattered(len(x), top, len(first)).flatten(), len(first), backend)
            gate, up = grouped_product(met.together(x), first, met.groups).chunk(2, -1)
            y = grouped_product(gated(gate, up, "silu", backend=fused), second, met.groups)
            return met.summed(y, shares)

        return run

    def peer() -> Call:
        liger = importlib.import_module("liger_kernel.ops.fused_moe").LigerFusedMoEFunction
        chosen = cache(lambda rows, experts: scattered(rows, top, experts).int())  # made once, so not timed

        def run(x: Tensor, first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
            return liger.apply(x, first, second, chosen(len(x), len(first)), shares)

        return run

    name = f"{top} of {shape[2]} experts ({shape[1]}, {width}, {hidden})"
    return Case(name, shape, "Liger", make, through("auto", "auto"), through("reference", "reference"), peer)


def scanned(backend: str) -> Call:
    """All states of a scan."""
    return lambda decay, inputs: scan(decay, inputs, backend=backend)[0]


def associative_scan() -> Call:
    """The same by torch's own scan, compiled."""
    from torch._higher_order_ops.associative_scan import associative_scan as torchs

    def then(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return first[0] * second[0], first[1] * second[0] + second[1]

    def run(decay: Tensor, inputs: Tensor) -> Tensor:
        return torchs(then, (decay, inputs), dim=1)[1]

    return torch.compile(run, dynamic=False)


def channel_scan(shape: tuple[int, int, int], state: int, peer_name: str, peer: Callable[[], Call]) -> Case:
    """(B, T, channels): a scan of `state` numbers a channel, as Mamba-1 and RG-LRU have it, float32."""

    def make(B: int, T: int, H: int) -> list[Tensor]:
        return [torch.rand(B, T, H * state, device="cuda"), normal(B, T, H * state, dtype=torch.float32)]

    name = title(f"scan beside {peer_name}", shape, state)
    return Case(name, shape, peer_name, make, scanned("triton"), scanned("reference"), peer)
