"""The GPUs of a process, and whether it can still use its own."""

from __future__ import annotations

import sys

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that says which ones it sees."""
ATTEMPTS_WITH_GPU = 2
"""Processes that a job gets where they lose their GPU."""


def is_lost() -> bool:
    """Whether a kernel's fault has broken this process's CUDA context: every later call of it raises, whoever makes it.

    Under NVIDIA's MPS a fault in one process breaks that of all. Waits for every device that the process has used;
    False where it has used none.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
        for index in range(torch.cuda.device_count()):
            if torch.cuda.memory_stats(index).get("allocation.all.allocated"):  # asking others would make contexts
                torch.cuda.synchronize(index)
    except RuntimeError:
        return True
    return False
