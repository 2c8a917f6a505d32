"""First-order recurrences channel by channel: h_t = a_t h_{t-1} + b_t (Mamba-1, RG-LRU, RWKV-4).

`reference.py` is the definition, `doubling.py` the parallel form, `sequential.py` what wide scans take on a CPU,
`triton` what all take on a GPU, and `scan.py` the one entrance with its gradients.
"""

from evo.kernels.scan.scan import TABLE, ScanCall, plan, scan

__all__ = ["TABLE", "ScanCall", "plan", "scan"]
