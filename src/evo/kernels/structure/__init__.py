"""The structure of matrices: statistics of features, and batched factors of low rank. May import: torch."""

from evo.kernels.structure.low_rank import low_rank_factors, principal
from evo.kernels.structure.statistics import coherence, correlation, effective_rank

__all__ = ["coherence", "correlation", "effective_rank", "low_rank_factors", "principal"]
