"""Small operations fused with their neighbours, for steps that are bound by launches and bytes rather than arithmetic.

Each function is the plain torch expression, and on CUDA a Triton kernel with its own backward. Values are computed in
float32 whatever the dtype of the tensors.

Holds: `add_norm` (residual + RMS or layer norm), `gated` (act(gate) * up), `rotate` (RoPE on queries and keys),
`lru_terms` (decay and input of an RG-LRU), `cross_entropy` and `linear_cross_entropy`, `embed` (an embedding with a
dense, deterministic backward), `permute` and `unpermute` (rows in the order of the experts that they meet, and their
weighed sums), `gather_sequences` (of a text, as batches), in `channel_gains` gains folded into the map behind them, and
in `adamw` a clipped AdamW step over many tensors in three launches.
"""

from evo.kernels.fused.add_norm import ADD_NORM, NORM, add_norm, norm
from evo.kernels.fused.cross_entropy import CROSS_ENTROPY, cross_entropy, linear_cross_entropy, soft_capped
from evo.kernels.fused.embed import EMBED, embed
from evo.kernels.fused.gated import ACTS, GATED, gated
from evo.kernels.fused.gather_sequences import GATHER_SEQUENCES, gather_sequences
from evo.kernels.fused.lru_terms import LRU_TERMS, lru_terms
from evo.kernels.fused.permute import PERMUTE, UNPERMUTE, Permutation, permute, unpermute
from evo.kernels.fused.rotate import rotate, rotate_qkv
from evo.kernels.fused.support import FUSED, FusedCall, takes_triton

__all__ = [
    "ACTS",
    "ADD_NORM",
    "CROSS_ENTROPY",
    "EMBED",
    "FUSED",
    "GATED",
    "GATHER_SEQUENCES",
    "LRU_TERMS",
    "NORM",
    "PERMUTE",
    "UNPERMUTE",
    "FusedCall",
    "Permutation",
    "add_norm",
    "cross_entropy",
    "embed",
    "gated",
    "gather_sequences",
    "linear_cross_entropy",
    "lru_terms",
    "norm",
    "permute",
    "rotate",
    "rotate_qkv",
    "soft_capped",
    "takes_triton",
    "unpermute",
]
