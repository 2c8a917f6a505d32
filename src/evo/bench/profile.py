"""Profiling a module: forward and backward, time and memory, operations."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evo.base.memory import peak_bytes

WARM_UPS = 2


def profile_model(
    model: nn.Module,
    input_shape: Sequence[int],
    num_iterations: int = 100,
    device: torch.device | str = "cpu",
    make_input: Callable[[], Tensor] | None = None,
) -> dict[str, float]:
    """What one pass of a module costs: times in milliseconds, memory in MB, operations of a forward pass.

    Keys: forward_mean_ms, forward_std_ms, backward_mean_ms, backward_std_ms, peak_memory_mb (of the device; on a CPU of
    the whole process), estimated_flops (products as torch counts them). The backward pass is that of the output's sum.

    Args:
        input_shape: of a normal float input; or `make_input` makes another.
        num_iterations: at least 1, after two that are not counted.
    """
    where = torch.device(device)
    model = model.to(where)
    x = torch.randn(*input_shape, device=where) if make_input is None else make_input()
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    rows = [_timed(model, x, where) for _ in range(num_iterations + WARM_UPS)][WARM_UPS:]
    forward, backward = ([row[index] for row in rows] for index in (0, 1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    peak = torch.cuda.max_memory_allocated(where) if where.type == "cuda" else peak_bytes()
    return {
        "forward_mean_ms": statistics.fmean(forward),
        "forward_std_ms": statistics.pstdev(forward),
        "backward_mean_ms": statistics.fmean(backward),
        "backward_std_ms": statistics.pstdev(backward),
        "peak_memory_mb": peak / 1e6,
        "estimated_flops": float(counter.get_total_flops()),
    }


def _timed(model: nn.Module, x: Tensor, where: torch.device) -> tuple[float, float]:
    """Milliseconds of a forward pass and of its backward pass."""
    model.zero_grad(set_to_none=True)
    began = _now(where)
    y = model(x)
    between = _now(where)
    y.float().sum().backward()
    return 1e3 * (between - began), 1e3 * (_now(where) - between)


def _now(where: torch.device) -> float:
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    return time.perf_counter()
