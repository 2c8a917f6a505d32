"""Position encodings that act on a mixer's heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.base import Block, Position
from evo.blocks.constant import Constant
from evo.blocks.position.spec import AlibiPlan, RopePlan, SinusoidPlan
from evo.blocks.position.table import Table
from evo.kernels.fused import FUSED, rotate, rotate_qkv, takes_triton


class NoPosition(Position):
    """Nothing."""


class Rope(Position):
    """Turns pairs of dimensions by position times frequency i (Su et al. 2021).

    Pairs are (i, i + dims / 2), as Hugging Face's `rotate_half` has them, or (2 i, 2 i + 1), of the first dimensions or
    of the last. Angles are computed in float64 and kept per device and dtype.
    """

    fused = (FUSED,)

    def __init__(self, plan: RopePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.frequencies = torch.tensor(plan.frequencies, dtype=torch.float64)
        self.amplitude = plan.amplitude
        self.neighbours, self.last = plan.neighbours, plan.last
        self.cos, self.sin = Table(self._cosines), Table(self._sines)
        self.decays = torch.tensor(plan.decays, dtype=torch.float64) if plan.decays else None
        self.center = plan.center
        self.growth, self.decline = Table(self._growth), Table(self._decline)

    def rotate(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Both turned as if the first of them stood at position `offset`."""
        if not (self.neighbours or self.last):
            return self._decayed(*self._rotated(q_BTHK, k_BTGK, offset), offset)
        turned = self._decayed(*self._rotated(self._arranged(q_BTHK), self._arranged(k_BTGK), offset), offset)
        return self._restored(turned[0]), self._restored(turned[1])

    def rotate_back(self, o_BTHK: Tensor, offset: int) -> Tensor:
        """By the angles of `rotate`, the other way; xPos's factors are those of queries."""
        cos_T1R, sin_T1R = self._angles(offset, o_BTHK.shape[1], o_BTHK.device, o_BTHK.dtype)
        turned = turn(self._arranged(o_BTHK), cos_T1R, -sin_T1R)
        return self._restored(self._decayed(turned, turned[:, :, :1], offset)[0])

    def _decayed(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Both with xPos's factors, whose product depends on the distance alone."""
        if self.decays is None:
            return q_BTHK, k_BTGK
        at, rest = (offset, offset + q_BTHK.shape[1], q_BTHK.device), q_BTHK.shape[-1] - 2 * len(self.decays)
        q_T1C, k_T1C = self.growth.rows(*at, q_BTHK.dtype), self.decline.rows(*at, k_BTGK.dtype)
        return q_BTHK * F.pad(q_T1C, (0, rest), value=1.0), k_BTGK * F.pad(k_T1C, (0, rest), value=1.0)

    def _growth(self, positions_T: Tensor) -> Tensor:
        assert self.decays is not None
        return torch.outer(positions_T - self.center, self.decays.repeat(2))[:, None].exp()

    def _decline(self, positions_T: Tensor) -> Tensor:
        return self._growth(positions_T).reciprocal()

    def _arranged(self, x_BTHK: Tensor) -> Tensor:
        """The rotated dimensions first, partners half of them apart."""
        dims = 2 * len(self.frequencies)
        rest = x_BTHK.shape[-1] - dims
        turning, other = (x_BTHK[..., rest:], x_BTHK[..., :rest]) if self.last else x_BTHK.split((dims, rest), dim=-1)
        if self.neighbours:
            turning = turning.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
        return torch.cat((turning, other), dim=-1)

    def _restored(self, x_BTHK: Tensor) -> Tensor:
        """The way back from `_arranged`."""
        dims = 2 * len(self.frequencies)
        turning, other = x_BTHK.split((dims, x_BTHK.shape[-1] - dims), dim=-1)
        if self.neighbours:
            turning = turning.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
        return torch.cat((other, turning) if self.last else (turning, other), dim=-1)

    def _rotated(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Both, the first dimensions turned and partners half of them apart."""
        if takes_triton(q_BTHK, self.backend) and k_BTGK.dtype == q_BTHK.dtype:
            cos_T1R, sin_T1R = self._angles(offset, q_BTHK.shape[1], q_BTHK.device, torch.float32)
            return rotate(q_BTHK, k_BTGK, cos_T1R[:, 0], sin_T1R[:, 0])
        cos_T1R, sin_T1R = self._angles(offset, q_BTHK.shape[1], q_BTHK.device, q_BTHK.dtype)
        return turn(q_BTHK, cos_T1R, sin_T1R), turn(k_BTGK, cos_T1R, sin_T1R)

    def rotate_beside(
        self, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGV: Tensor, offset: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`rotate`; on CUDA the gradients of all three come back as the columns of one tensor."""
        if (
            self.neighbours
            or self.last
            or self.decays is not None
            or not takes_triton(q_BTHK, self.backend)
            or not q_BTHK.dtype == k_BTGK.dtype == v_BTGV.dtype
        ):
            return super().rotate_beside(q_BTHK, k_BTGK, v_BTGV, offset)
        cos_T1R, sin_T1R = self._angles(offset, q_BTHK.shape[1], q_BTHK.device, torch.float32)
        return rotate_qkv(q_BTHK, k_BTGK, v_BTGV, cos_T1R[:, 0], sin_T1R[:, 0])

    def _angles(self, offset: int, length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine, (T, 1, dims / 2), times the amplitude."""
        at = (offset, offset + length, device, dtype)
        return self.cos.rows(*at), self.sin.rows(*at)

    def _cosines(self, positions_T: Tensor) -> Tensor:
        return torch.outer(positions_T, self.frequencies)[:, None].cos() * self.amplitude

    def _sines(self, positions_T: Tensor) -> Tensor:
        return torch.outer(positions_T, self.frequencies)[:, None].sin() * self.amplitude


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


class Order(Block):
    """Fixed vectors of positions, added to the embedding."""

    def vectors(self, start: int, end: int, like: Tensor) -> Tensor:
        """Those of positions start, ..., end - 1: (T, D) in the dtype and on the device of `like`."""
        raise NotImplementedError


class Sinusoids(Order):
    """Sines and cosines of positions times frequencies (Vaswani et al. 2017)."""

    def __init__(self, plan: SinusoidPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.frequencies = torch.tensor(plan.frequencies, dtype=torch.float64)
        self.offset, self.alternating, self.width = plan.offset, plan.alternating, plan.width
        self.table = Table(self._sinusoids)

    def vectors(self, start: int, end: int, like: Tensor) -> Tensor:
        return self.table.rows(start, end, like.device, like.dtype)

    def _sinusoids(self, positions_T: Tensor) -> Tensor:
        angles = torch.outer(positions_T + self.offset, self.frequencies)
        sines = (angles.sin(), angles.cos())
        table_TD = torch.stack(sines, -1).flatten(-2) if self.alternating else torch.cat(sines, -1)
        return F.pad(table_TD, (0, self.width - table_TD.shape[1]))


class Alibi(Position):
    """Scores fall by slope_h a token of distance (Press et al. 2021)."""

    def __init__(self, plan: AlibiPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self._slopes = Constant(torch.tensor(plan.slopes, dtype=torch.float64))

    def slopes_H(self, like: Tensor) -> Tensor:
        return self._slopes.like(like)
