"""The structure of matrices: statistics of features, batched factors of low rank, and rounding in a metric.

May import: torch, triton inside functions, `evo.kernels.triton_support`.
"""

from evo.kernels.structure.low_rank import low_rank_factors, principal
from evo.kernels.structure.nearest_plane import nearest_plane
from evo.kernels.structure.reach import NEAR, reach
from evo.kernels.structure.statistics import coherence, correlation, effective_rank

__all__ = [
    "NEAR",
    "coherence",
    "correlation",
    "effective_rank",
    "low_rank_factors",
    "nearest_plane",
    "principal",
    "reach",
]
