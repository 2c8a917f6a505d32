"""Position encodings that act on a mixer's heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from evo.blocks.base import Block, Constant, Position
from evo.blocks.position.spec import AlibiPlan, RopePlan
from evo.kernels.fused import FUSED, rotate, rotate_qkv, takes_triton
from evo.kernels.operators import lasting_tensors


class NoPosition(Position):
    """Nothing."""


class Rope(Position):
    """Turns pairs (i, i + dims / 2) of the first `dims` dimensions by position times frequency i (Su et al. 2021).

    The pairing is that of Hugging Face's `rotate_half`. Angles are computed in float64 and kept per device and dtype.
    """

    fused = (FUSED,)

    def __init__(self, plan: RopePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.frequencies = torch.tensor(plan.frequencies, dtype=torch.float64)
        self.amplitude = plan.amplitude
        self._tables: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def rotate(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Both turned as if the first of them stood at position `offset`."""
        if takes_triton(q_BTHK, self.backend) and k_BTGK.dtype == q_BTHK.dtype:
            cos_T1R, sin_T1R = self._angles(offset, q_BTHK.shape[1], q_BTHK.device, torch.float32)
            return rotate(q_BTHK, k_BTGK, cos_T1R[:, 0], sin_T1R[:, 0])
        cos_T1R, sin_T1R = self._angles(offset, q_BTHK.shape[1], q_BTHK.device, q_BTHK.dtype)
        return turn(q_BTHK, cos_T1R, sin_T1R), turn(k_BTGK, cos_T1R, sin_T1R)

    def rotate_beside(
        self, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGV: Tensor, offset: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`rotate`; on CUDA the gradients of all three come back as the columns of one tensor."""
        if not takes_triton(q_BTHK, self.backend) or not q_BTHK.dtype == k_BTGK.dtype == v_BTGV.dtype:
            return super().rotate_beside(q_BTHK, k_BTGK, v_BTGV, offset)
        cos_T1R, sin_T1R = self._angles(offset, q_BTHK.shape[1], q_BTHK.device, torch.float32)
        return rotate_qkv(q_BTHK, k_BTGK, v_BTGV, cos_T1R[:, 0], sin_T1R[:, 0])

    def _angles(self, offset: int, length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine, (T, 1, dims / 2), times the amplitude."""
        key, end = (device, dtype), offset + length
        if key not in self._tables or self._tables[key][0].shape[0] < end:
            with lasting_tensors():
                self._tables[key] = self._table(1 << (end - 1).bit_length(), device, dtype)
        cos, sin = self._tables[key]
        return cos[offset:end], sin[offset:end]

    def _table(self, length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angles = torch.outer(torch.arange(length, dtype=torch.float64), self.frequencies)[:, None]
        cos, sin = angles.cos() * self.amplitude, angles.sin() * self.amplitude
        return cos.to(dtype).to(device), sin.to(dtype).to(device)


def turn(x_BTHK: Tensor, cos_T1R: Tensor, sin_T1R: Tensor) -> Tensor:
    """The first 2 R dimensions of x turned in pairs (i, i + R); the others as they are."""
    return _Turn.apply(x_BTHK, cos_T1R, sin_T1R)  # pyright: ignore[reportReturnType]


class _Turn(torch.autograd.Function):
    """(a, b) -> (a cos - b sin, b cos + a sin) in one new tensor; the gradient is turned back."""

    @staticmethod
    def forward(x_BTHK: Tensor, cos_T1R: Tensor, sin_T1R: Tensor) -> Tensor:
        pairs = cos_T1R.shape[-1]
        a, b = x_BTHK[..., :pairs], x_BTHK[..., pairs : 2 * pairs]
        rest = torch.ones_like(cos_T1R[..., :1]).expand(*cos_T1R.shape[:-1], x_BTHK.shape[-1] - 2 * pairs)
        y_BTHK = x_BTHK * torch.cat((cos_T1R, cos_T1R, rest), dim=-1)
        y_BTHK[..., :pairs].addcmul_(b, sin_T1R, value=-1)
        y_BTHK[..., pairs : 2 * pairs].addcmul_(a, sin_T1R)
        return y_BTHK

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos_T1R, sin_T1R = ctx.saved_tensors
        return turn(gradients[0], cos_T1R, -sin_T1R), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Tensor) -> tuple[Tensor, int]:
        """Members of x are more batches; the angles are the same for all."""
        (x, cos_T1R, sin_T1R), at = args, in_dims[0]
        assert at is not None
        assert in_dims[1:] == (None, None)
        return turn(x.movedim(at, 0), cos_T1R, sin_T1R), 0


class Alibi(Position):
    """Scores fall by slope_h a token of distance (Press et al. 2021)."""

    def __init__(self, plan: AlibiPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self._slopes = Constant(torch.tensor(plan.slopes, dtype=torch.float64))

    def slopes_H(self, like: Tensor) -> Tensor:
        return self._slopes.like(like)
