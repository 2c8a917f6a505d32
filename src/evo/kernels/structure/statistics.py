"""Statistics of the structure of features: correlation, effective rank, coherence. One definition on every device.

All take stacks of matrices, compute in float32 (float64 for float64 inputs), and return that dtype. Columns are scaled
by their largest entries first, so that squares neither overflow nor vanish.
"""

from __future__ import annotations

import torch
from torch import Tensor

CONSTANT = 8.0
"""A feature whose deviations are this many roundings of its size does not vary."""


def correlation(x_ND: Tensor) -> Tensor:
    """Pearson's correlations between the D features of N samples, (..., N, D) -> (..., D, D).

    A feature that does not vary correlates with nothing: its row, its column and its diagonal entry are 0.
    """
    x_ND = _scaled(x_ND, (-2,))
    centred_ND = x_ND - x_ND.mean(-2, keepdim=True)
    rounding_1D = CONSTANT * torch.finfo(x_ND.dtype).eps * x_ND.norm(dim=-2, keepdim=True)
    unit_ND = _divided(centred_ND, centred_ND.norm(dim=-2, keepdim=True), rounding_1D)
    return (unit_ND.mT @ unit_ND).clamp(-1.0, 1.0)


def effective_rank(x_MN: Tensor) -> Tensor:
    """exp of the entropy, in nats, of the normalised singular values: (..., M, N) -> (...) (Roy & Vetterli 2007).

    Between 1 and min(M, N); 0 for a matrix of zeros or without entries.
    """
    if 0 in x_MN.shape[-2:]:
        return _wide(x_MN).new_zeros(x_MN.shape[:-2])
    sigma_R = torch.linalg.svdvals(_scaled(x_MN, (-2, -1)))
    total_1 = sigma_R.sum(-1, keepdim=True)
    entropy = torch.special.entr(_divided(sigma_R, total_1)).sum(-1)
    return torch.where(total_1[..., 0] > 0.0, entropy.exp(), 0.0)


def coherence(x_ND: Tensor) -> Tensor:
    """The largest absolute cosine between two different columns, (..., N, D) -> (...) (Donoho & Huo 2001).

    Columns of zeros are at right angles to all; fewer than two columns have coherence 0.
    """
    if x_ND.shape[-2] == 0 or x_ND.shape[-1] < 2:
        return _wide(x_ND).new_zeros(x_ND.shape[:-2])
    x_ND = _scaled(x_ND, (-2,))
    unit_ND = _divided(x_ND, x_ND.norm(dim=-2, keepdim=True))
    cosines_DD = (unit_ND.mT @ unit_ND).abs()
    itself_DD = torch.eye(x_ND.shape[-1], dtype=torch.bool, device=x_ND.device)
    return cosines_DD.masked_fill(itself_DD, 0.0).amax((-2, -1)).clamp(max=1.0)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _scaled(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x over its largest absolute entry along `dims`."""
    x = _wide(x)
    return _divided(x, x.abs().amax(dims, keepdim=True))


def _divided(x: Tensor, size: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    """x / size, and 0 where the size is not above the floor."""
    return torch.where(size > floor, x / torch.where(size > floor, size, 1.0), 0.0)
