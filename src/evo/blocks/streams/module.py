"""Connections between residual streams and sublayers, and the ends of streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype, in_own_precision
from evo.blocks.flow import Flow
from evo.blocks.streams.spec import GatedEndPlan, GatesPlan, HyperPlan, PooledPlan

Read = tuple[Tensor, Tensor, Tensor | None]
"""What a sublayer reads, (B, T, D), what stays of the streams, (B, T, N, D), and gains of what is written, (..., N)."""


class Connection(Block, ABC):
    """Stands around one sublayer: x <- read(X), then X <- written(X, y)."""

    @abstractmethod
    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        """From the streams to what a sublayer reads and what is needed to write to them."""

    def written(self, kept_BTND: Tensor, gains_N: Tensor | None, y_BTD: Tensor, flow: Flow) -> Tensor:
        """The streams after a sublayer that gave y."""
        del flow
        assert gains_N is not None
        return kept_BTND + gains_N[..., None].to(y_BTD.dtype) * y_BTD[..., None, :]


class LayerConnection(Block, ABC):
    """Stands around one layer, whose sublayers compute the first stream."""

    first_reads: int = 0
    """Which of the streams the blocks of its first sublayer read, instead of the first."""

    @abstractmethod
    def predicted(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        """The streams that the layer finds; it reads the first of them."""

    @abstractmethod
    def corrected(self, predicted_BTND: Tensor, y_BTD: Tensor, flow: Flow) -> Tensor:
        """The streams after a layer that made y of the first."""

    def read_aside(self, x_BTND: Tensor) -> Tensor:
        """What a sublayer behind it reads, (B, T, D), where its spec sets any aside."""
        raise NotImplementedError

    def written_aside(self, x_BTND: Tensor, y_BTD: Tensor) -> Tensor:
        """The streams after such a sublayer."""
        raise NotImplementedError


class Hyper(Connection):
    """Zhu et al. 2024, eqs. 5 to 13."""

    reads: nn.Parameter
    mix: nn.Parameter
    writes: nn.Parameter
    changes: nn.Parameter | None
    scales: nn.Parameter | None

    def __init__(self, plan: HyperPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.eps = plan.eps

    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        mix_NM = torch.cat((self.reads[:, None], self.mix), dim=1)
        write_N: Tensor = self.writes
        if self.changes is not None and self.scales is not None:
            normed_BTND = F.rms_norm(x_BTND, x_BTND.shape[-1:], None, self.eps)
            changes = torch.tanh(flow.project(normed_BTND, self.changes).to(compute_dtype(x_BTND)))
            mix_NM = mix_NM + self.scales[0] * changes[..., :-1]
            write_N = write_N + self.scales[1] * changes[..., -1]
        mixed_BTMD = mixed(x_BTND, mix_NM)
        return mixed_BTMD[..., 0, :], mixed_BTMD[..., 1:, :], write_N


class Gates(Connection):
    """HY-V4's gates, or DeepSeek-V4's with a doubly stochastic mix."""

    maps: nn.Parameter
    read_bias: nn.Parameter
    write_bias: nn.Parameter
    mix_bias: nn.Parameter | None
    scales: nn.Parameter

    def __init__(self, plan: GatesPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        plan, count = self.plan, self.plan.count
        maps = by_all(x_BTND, self.maps, plan.norm_eps, flow)
        gates_BTN = torch.sigmoid(maps[..., :count] * self.scales[0] + self.read_bias) + plan.eps
        writes_BTN = torch.sigmoid(maps[..., count : 2 * count] * self.scales[1] + self.write_bias)
        kept_BTND = x_BTND
        if self.mix_bias is not None:
            logits = maps[..., 2 * count :].unflatten(-1, (count, count)) * self.scales[2] + self.mix_bias
            kept_BTND = mixed(x_BTND, stochastic(logits, plan.iterations, plan.eps))
        return weighed(x_BTND, gates_BTN), kept_BTND, plan.magnitude * writes_BTN + plan.write_eps


class Dual(Connection):
    """ResiDual's pair: read the first, write to both, and norm the first."""

    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        del flow
        return x_BTND[..., 0, :], x_BTND, None

    def written(self, kept_BTND: Tensor, gains_N: Tensor | None, y_BTD: Tensor, flow: Flow) -> Tensor:
        first_BTD = normed(self, kept_BTND[..., 0, :] + y_BTD, flow)
        return torch.stack((first_BTD, kept_BTND[..., 1, :] + y_BTD), dim=-2)


class Beginning(Block, ABC):
    """Makes streams of one vector."""

    @abstractmethod
    def begun(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, N, D)."""


class End(Block, ABC):
    """Makes one vector of streams."""

    @abstractmethod
    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        """(B, T, N, D) -> (B, T, D)."""


class Pooled(End):
    """The sum of streams, times a number."""

    def __init__(self, plan: PooledPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.factor = plan.factor

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        del flow
        total_BTD = x_BTND.sum(-2)
        return total_BTD if self.factor == 1.0 else total_BTD * self.factor


class GatedEnd(End):
    """The sum of streams with gates by all of them."""

    maps: nn.Parameter
    bias: nn.Parameter
    scale: nn.Parameter

    def __init__(self, plan: GatedEndPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        maps_BTN = by_all(x_BTND, self.maps, self.plan.norm_eps, flow)
        return weighed(x_BTND, torch.sigmoid(maps_BTN * self.scale + self.bias) + self.plan.eps)


class DualEnd(End):
    """The first stream and the norm of the second."""

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        return x_BTND[..., 0, :] + normed(self, x_BTND[..., 1, :], flow)


def by_all(x_BTND: Tensor, maps: Tensor, eps: float, flow: Flow) -> Tensor:
    """Maps of the norm of all streams side by side, in float32 or float64."""
    flat_BTC = x_BTND.flatten(-2)
    return flow.project(F.rms_norm(flat_BTC, flat_BTC.shape[-1:], None, eps), maps).to(compute_dtype(x_BTND))


def weighed(x_BTND: Tensor, gates_BTN: Tensor) -> Tensor:
    """sum_n gates_n X_n."""
    return (gates_BTN.to(x_BTND.dtype)[..., None] * x_BTND).sum(-2)


def mixed(x_BTND: Tensor, mix_NM: Tensor) -> Tensor:
    """sum_n mix_nm X_n, (B, T, M, D), never in half precision: it is the residual stream."""
    with in_own_precision(x_BTND.device):
        return mix_NM.to(x_BTND.dtype).transpose(-1, -2) @ x_BTND


def stochastic(logits_NM: Tensor, iterations: int, eps: float) -> Tensor:
    """Shares whose rows and columns sum to about one (Sinkhorn and Knopp 1967)."""
    shares_NM = logits_NM.softmax(-1) + eps
    shares_NM = shares_NM / (shares_NM.sum(-2, keepdim=True) + eps)
    for _ in range(iterations - 1):
        shares_NM = shares_NM / (shares_NM.sum(-1, keepdim=True) + eps)
        shares_NM = shares_NM / (shares_NM.sum(-2, keepdim=True) + eps)
    return shares_NM


def normed(block: Block, x_BTD: Tensor, flow: Flow) -> Tensor:
    """x through the block's norm."""
    norm = block.child("norm")
    assert isinstance(norm, Norm)
    return norm(x_BTD, flow)
