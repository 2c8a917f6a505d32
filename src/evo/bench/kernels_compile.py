"""Compile every kernel of a benchmark first, many at a time, so that the timing that follows is quiet and short.

Triton and torch.compile keep what they compile on disk, where the process that times finds it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Sequence

import torch

from evo.bench.kernels_cases import Case, cases
from evo.bench.kernels_proof import proof

LOG = logging.getLogger(__name__)
# Each process holds the inputs of one case and a CUDA context: about five gigabytes.
BYTES_A_PROCESS = 5e9


def compile_all(names: Sequence[str]) -> None:
    """Run every named case and its peer once, forward and backward, in as many processes as cores and memory allow.

    What fails here is only logged: the timing meets the same failure and reports it in its row.
    """
    jobs = [(name, who) for who in ("peer", "ours", "proof") for name in names]
    memory = torch.cuda.get_device_properties(0).total_memory
    processes = max(1, min(os.cpu_count() or 1, int(memory / BYTES_A_PROCESS), len(jobs)))
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        for _ in pool.imap_unordered(_run_once, jobs):
            pass


def _run_once(job: tuple[str, str]) -> None:
    name, who = job
    case = next(case for case in cases() if case.name == name)
    try:
        if who == "proof":
            proof(case)
        else:
            _step(case, who)
    except Exception as failure:  # whatever a kernel raises, the timing of its row raises too, and reports
        LOG.info("%s, %s: %r", name, who, failure)
    torch.cuda.empty_cache()


def _step(case: Case, who: str) -> None:
    inputs = [x.requires_grad_() for x in case.make(*case.shape)]
    o = (case.ours if who == "ours" else case.peer())(*inputs)
    torch.autograd.grad(o, inputs, torch.randn_like(o))
    torch.cuda.synchronize()
