"""Where the time of a captured training step goes, by families of kernels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch

from evo.training.loop import Trainer

FAMILIES = {
    "matrix products": ("nvjet", "gemm", "cublas", "splitK"),
    "attention (cuDNN)": ("cudnn", "fmha", "flash"),
    "torch elementwise, sums, copies": ("at::native", "Memset", "Memcpy"),
}
"""Families of kernels by parts of their names; our own stand alone."""
ALL = "all"


class Launches(Protocol):
    """What the profiler saw of one kernel: its name, how often it ran, and its microseconds in all."""

    key: str
    count: int
    self_device_time_total: float


@dataclass(frozen=True)
class Family:
    """Launches and microseconds of one step that a family of kernels takes."""

    name: str
    launches: float
    spent_us: float


def breakdown(trainer: Trainer, steps: int = 10) -> list[Family]:
    """A captured trainer's step by families of kernels, profiled over some steps, as `families` sorts them."""
    from torch.profiler import ProfilerActivity, profile

    trainer.run(steps)
    assert trainer.captured is not None
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for step in range(trainer.step, trainer.step + steps):
            trainer.captured.take(step)
        torch.cuda.synchronize()
    return families(seen.key_averages(), steps)


def families(kernels: Iterable[Launches], steps: int) -> list[Family]:
    """What one of so many steps spends, the most first: the sum of all, and then its parts."""
    sums: dict[str, tuple[float, float]] = {}
    for kernel in (kernel for kernel in kernels if kernel.self_device_time_total > 0):
        name = next((name for name, marks in FAMILIES.items() if any(m in kernel.key for m in marks)), kernel.key[:60])
        launches, spent = sums.get(name, (0.0, 0.0))
        sums[name] = launches + kernel.count / steps, spent + kernel.self_device_time_total / steps
    sums[ALL] = sum(launches for launches, _ in sums.values()), sum(spent for _, spent in sums.values())
    return sorted((Family(name, *spent) for name, spent in sums.items()), key=lambda family: -family.spent_us)


def cells(found: list[Family]) -> list[tuple[str, str, str]]:
    """The rows of a table to print, heading first."""
    heading = ("kernels", "launches a step", "us a step")
    return [heading, *((family.name, f"{family.launches:.1f}", f"{family.spent_us:.1f}") for family in found)]
