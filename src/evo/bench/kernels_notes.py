"""What `evo bench kernels` says below its table: operations without a gradient, one line each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F

from evo.bench.kernels_cases import normal
from evo.bench.kernels_table import Note
from evo.bench.kernels_timing import Timing, captured, timing
from evo.kernels.attention import Stencil, attend, probe
from evo.kernels.recurrence import recur
from evo.kernels.structure import low_rank_factors


def notes() -> Iterator[Note]:
    """All of them."""
    yield probe_line()
    yield decoding_line()
    yield latent_line()
    yield low_rank_line()


def probe_line(every: int = 10, pairs: int = 25) -> Note:
    """What the probe adds to plain attention when it runs at every tenth step, in one stream of steps.

    Groups of ten forward and backward passes, every other group with one probe behind it, without a synchronisation
    between them: the difference of neighbours is what a training step waits for. The probe alone is timed beside it.
    """
    q, k, v = (normal(8, 2048, 16, 64).requires_grad_() for _ in range(3))
    gradient = torch.randn_like(q)

    def step() -> None:
        torch.autograd.grad(attend(q, k, v, stencil=Stencil()), [q, k, v], gradient)

    def sample(row_stride: int = 16) -> None:
        probe(q, k, stencil=Stencil(), row_stride=row_stride)

    alone, whole = timing(sample), timing(lambda: sample(1))
    times = in_stream([lambda: repeat(step, every), lambda: (repeat(step, every), sample())], pairs)
    steps, added = spread(times[0]), spread([b - a for a, b in zip(*times, strict=True)])
    text = (
        f"Probe (8, 2048, 16, 64) causal, every 16th row, behind every {every}th f+b of attention in one stream: adds "
        f"{added} ms to {steps} ms, {added.median / steps.median:.2%} "
        f"({added.low / steps.median:.2%}-{added.high / steps.median:.2%}); "
        f"alone, eager {alone} ms, every row {whole} ms."
    )
    numbers = {"steps_ms": steps, "added_ms": added, "alone_ms": alone, "every_row_alone_ms": whole}
    return Note("probe", text, {**numbers, "added_ratio": added.median / steps.median})


def repeat(step: Callable[[], object], count: int) -> None:
    for _ in range(count):
        step()


def in_stream(groups: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Milliseconds that each of `groups` takes in each round, all in one stream that is never waited for."""
    repeat(groups[-1], 3)
    marks = [torch.cuda.Event(enable_timing=True)]
    marks[0].record()
    for _ in range(rounds):
        for group in groups:
            group()
            marks.append(torch.cuda.Event(enable_timing=True))
            marks[-1].record()
    torch.cuda.synchronize()
    times = [before.elapsed_time(after) for before, after in pairwise(marks)]
    return [times[i :: len(groups)] for i in range(len(groups))]


def spread(times: list[float]) -> Timing:
    """Median, 20th and 80th percentile."""
    low, *_, high = statistics.quantiles(times, n=5)
    return Timing(statistics.median(times), low, high)


def decoding_line() -> Note:
    """One decoded token of a gated recurrence in a CUDA graph: the stepwise kernel beside the chunked one."""
    B, H, dim = 64, 16, 128
    q, k, v = (normal(B, 1, H, dim) for _ in range(3))
    gates = -0.1 * torch.rand(B, 1, H, device="cuda")
    state = normal(B, H, dim, dim, dtype=torch.float32)

    def through(backend: str):
        @torch.no_grad()
        def step() -> None:
            recur(q, k, v, log_decay=gates, initial_state_BHKV=state, backend=backend)

        return timing(captured(step))

    step, chunk = through("step"), through("triton")
    floor_ms = 2 * state.nbytes / 3e9
    text = (
        f"Decoding one token of SSD ({B}, 1, {H}, {dim}) in a CUDA graph: step {step} ms, chunk kernel {chunk} ms; "
        f"the state once in and out through 3 TB/s {floor_ms:.3f} ms."
    )
    return Note("decoding", text, {"step_ms": step, "chunk_ms": chunk, "floor_ms": floor_ms})


def latent_line(B: int = 16, H: int = 64, S: int = 4096) -> Note:
    """One decoded token of latent attention (DeepSeek-V3's widths, fewer heads) in a CUDA graph.

    Absorbed, on the narrow cache, its two small products included; beside SDPA on keys and values kept for every head.
    Both read the same numbers, and `error` is how far they are from one another.
    """
    nope, rope, rank, values = 128, 64, 512, 128
    scale = (nope + rope) ** -0.5
    q = normal(B, 1, H, nope + rope)
    kept = normal(B, S, 1, rank + rope)
    up_HKR, down_HVR = normal(H, nope, rank) * rank**-0.5, normal(H, values, rank) * rank**-0.5

    @torch.no_grad()
    def absorbed() -> torch.Tensor:
        narrow = torch.einsum("bthk,hkr->bthr", q[..., :nope], up_HKR)
        whole = torch.cat((narrow, q[..., nope:]), -1)
        o = attend(whole, kept, kept[..., :rank], stencil=Stencil(), scale=scale, query_offset=S - 1)
        return torch.einsum("bthr,hvr->bthv", o, down_HVR)

    shared = kept[..., rank:].expand(-1, -1, H, -1)
    k = torch.cat((torch.einsum("bsr,hkr->bshk", kept[:, :, 0, :rank], up_HKR), shared), -1)
    v = torch.einsum("bsr,hvr->bshv", kept[:, :, 0, :rank], down_HVR)

    @torch.no_grad()
    def expanded() -> torch.Tensor:
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale=scale)
        return o.transpose(1, 2)

    ours, theirs = absorbed().double(), expanded().double()
    error = ((ours - theirs).norm() / theirs.norm()).item()
    narrow, wide = timing(captured(absorbed)), timing(captured(expanded))
    text = (
        f"Decoding one token of latent attention ({B}, 1, {H}) after {S} in a CUDA graph: absorbed {narrow} ms, SDPA "
        f"over expanded keys {wide} ms, {wide.median / narrow.median:.2f}x, {error:.1e} apart; the narrow cache once "
        f"through 3 TB/s {kept.nbytes / 3e9:.3f} ms."
    )
    return Note("latent decoding", text, {"absorbed_ms": narrow, "expanded_ms": wide, "error": error})


def low_rank_line(matrices: int = 64, size: int = 1024, rank: int = 64) -> Note:
    """A stack of random matrices to low rank beside torch.svd_lowrank, both with their errors over the best one's."""
    x = normal(matrices, size, size, dtype=torch.float32)
    generator = torch.Generator("cuda").manual_seed(0)
    best = torch.linalg.svdvals(x[0].double())[rank:].norm()

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        return low_rank_factors(x, rank, generator=generator)

    def theirs() -> tuple[torch.Tensor, torch.Tensor]:
        left, sigma, right = torch.svd_lowrank(x, rank)
        return left * sigma[..., None, :], right

    told, numbers = [], dict[str, Timing | float]()
    for who, name, run in (("ours", "low_rank_factors", ours), ("peer", "torch.svd_lowrank", theirs)):
        left, right = run()
        error = ((x[0].double() - left[0].double() @ right[0].double().T).norm() / best).item()
        taken = timing(run)
        numbers |= {f"{who}_ms": taken, f"{who}_error_ratio": error}
        told.append(f"{name} {taken} ms, {error:.4f}x the best error")
    return Note("low rank", f"{matrices} matrices {size}x{size} to rank {rank}: {'; '.join(told)}.", numbers)
