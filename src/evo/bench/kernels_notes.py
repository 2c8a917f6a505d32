"""What `evo bench kernels` says below its table: operations without a gradient, one line each."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from evo.bench.kernels_cases import normal
from evo.bench.kernels_timing import captured, timing, timings
from evo.kernels.attention import Stencil, attend, probe
from evo.kernels.recurrence import recur
from evo.kernels.structure import low_rank_factors


def notes() -> Iterator[str]:
    """All of them."""
    yield probe_line()
    yield decoding_line()
    yield low_rank_line()


def probe_line(every: int = 10) -> str:
    """What the probe costs beside the forward and backward pass of plain attention, when it runs every tenth step."""
    q, k, v = (normal(8, 2048, 16, 64).requires_grad_() for _ in range(3))
    (_, both), _ = timings(lambda *x: attend(*x, stencil=Stencil()), [q, k, v], False)
    cost = timing(lambda: probe(q, k, stencil=Stencil(), row_stride=16))
    whole = timing(lambda: probe(q, k, stencil=Stencil(), row_stride=1))
    share = cost.median / (every * both.median)
    return (
        f"Probe (8, 2048, 16, 64) causal: every 16th row {cost} ms, every row {whole} ms, attention f+b {both} ms; "
        f"at every {every}th step {share:.2%} of f+b."
    )


def decoding_line() -> str:
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
    return (
        f"Decoding one token of SSD ({B}, 1, {H}, {dim}) in a CUDA graph: step {step} ms, chunk kernel {chunk} ms; "
        f"the state once in and out through 3 TB/s {floor_ms:.3f} ms."
    )


def low_rank_line(matrices: int = 64, size: int = 1024, rank: int = 64) -> str:
    """A stack of random matrices to low rank beside torch.svd_lowrank, both with their errors over the best one's."""
    x = normal(matrices, size, size, dtype=torch.float32)
    generator = torch.Generator("cuda").manual_seed(0)
    best = torch.linalg.svdvals(x[0].double())[rank:].norm()

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        return low_rank_factors(x, rank, generator=generator)

    def theirs() -> tuple[torch.Tensor, torch.Tensor]:
        left, sigma, right = torch.svd_lowrank(x, rank)
        return left * sigma[..., None, :], right

    told = []
    for name, run in (("low_rank_factors", ours), ("torch.svd_lowrank", theirs)):
        left, right = run()
        error = (x[0].double() - left[0].double() @ right[0].double().T).norm() / best
        told.append(f"{name} {timing(run)} ms, {error:.4f}x the best error")
    return f"{matrices} matrices {size}x{size} to rank {rank}: {'; '.join(told)}."
