"""Compile every kernel of a benchmark first, many at a time, so that the timing that follows is quiet and short.

Triton and torch.compile keep what they compile on disk, where the process that times finds it. A peer may try hundreds
of tiles for minutes: what is done early is timed before that goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch

from evo.bench.kernels_cases import Case, cases
from evo.bench.kernels_check import largest_error

# Each process holds one case with its gradients, the peer's trials of tiles included, and a CUDA context.
BYTES_A_PROCESS = 8e9


def compile_all(names: Sequence[str], patience_s: float | None = None) -> list[str]:
    """Run every named case and its peer once, forward and backward, in as many processes as cores and memory allow.

    Gives the names of cases that were not done when patience was over; their processes are ended by then. What fails
    here is only printed, on stderr: the timing meets the same failure and reports it in its row.
    """
    jobs = [(name, who) for who in ("peer", "ours", "check") for name in names]
    memory = torch.cuda.get_device_properties(0).total_memory
    processes = max(1, min(os.cpu_count() or 1, int(memory / BYTES_A_PROCESS), len(jobs)))
    return run_jobs(_run_once, jobs, processes, patience_s)


def run_jobs(
    function: Callable[[str, str], float], jobs: Sequence[tuple[str, str]], processes: int, patience_s: float | None
) -> list[str]:
    """See `compile_all`."""
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    waiting = {pool.submit(function, *job): job for job in jobs}
    try:
        for done, future in enumerate(as_completed(waiting, patience_s), 1):
            name, who = waiting.pop(future)
            failure = future.exception()
            outcome = f"{future.result():.0f} s" if failure is None else repr(failure).splitlines()[0][:100]
            print(f"compiling: {done} of {len(jobs)}, {name}, {who}: {outcome}", file=sys.stderr, flush=True)
    except TimeoutError:
        for process in multiprocessing.active_children():
            process.kill()
    finally:
        pool.shutdown(cancel_futures=True)
    return list(dict.fromkeys(name for name, _ in waiting.values()))


def _run_once(name: str, who: str) -> float:
    """Seconds that it took."""
    started = time.perf_counter()
    case = next(case for case in cases() if case.name == name)
    try:
        if who == "check":
            largest_error(case)
        else:
            _step(case, who)
    finally:
        torch.cuda.empty_cache()
    return time.perf_counter() - started


def _step(case: Case, who: str) -> None:
    inputs = [x.requires_grad_() for x in case.make(*case.shape)]
    o = (case.ours if who == "ours" else case.peer())(*inputs)
    torch.autograd.grad(o, inputs, torch.randn_like(o))
    torch.cuda.synchronize()
