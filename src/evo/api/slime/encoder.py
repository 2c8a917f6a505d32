"""A pool of pseudopods as an encoder of sequences: an ordinary torch module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.base.streams import Stream
from evo.blocks.attention.spec import AttentionSpec
from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.blocks.pool.module import Pool
from evo.blocks.pool.spec import PoolSpec
from evo.blocks.position.spec import NoPositionSpec, RopeSpec
from evo.compiler.build import drawn, make
from evo.dsl.plan import ONES, Init, Weight, linear, vector
from evo.dsl.spec import Scope
from evo.kernels.dispatch import AUTO
from evo.slime.feedback import SURPRISE, Feedback
from evo.slime.observability import MetricsCollector
from evo.slime.pseudopod import Pseudopod
from evo.slime.tubes import Tubes

EPS = 1e-6


@dataclass(frozen=True)
class FlowState:
    """What is carried from one call to the next: a value, from which several calls may go on.

    tubes: memory of the mean output of each row, (B, latent). blocks: what attention kept of the `seen` tokens so far,
    where it is causal.
    """

    tubes: Tubes = field(default_factory=Tubes)
    blocks: Mapping[tuple[str, int], State] = field(default_factory=dict[tuple[str, int], State])
    seen: int = 0

    def detached(self) -> FlowState:
        """The same without its graph: where backpropagation through time ends."""
        return FlowState(self.tubes.detached(), {key: kept.cut() for key, kept in self.blocks.items()}, self.seen)


class SlimeMoldEncoder(nn.Module):
    """h = W x + tube * recall;  y = h + pool(rms(h) * norm): vectors (B, T, sensory_dim) -> (B, T, latent_dim).

    Args:
        sensory_dim, latent_dim: widths of inputs and outputs.
        head_dim: width of a pseudopod's one head.
        num_pseudopods: how many are alive at the start.
        device: where it stands.
        kernels: the backend that attention runs on; `auto` chooses.
        metrics: what every call records its latency, in seconds, and its throughput, in vectors a second, in.
        slots: the most pseudopods that there can be; `num_pseudopods` if left out.
        causal: whether no output depends on later inputs; only then a state carries what attention saw.
        decay: of the tubes.
        seed: of the initial weights.

    >>> import torch
    >>> encoder = SlimeMoldEncoder(sensory_dim=32, latent_dim=16, head_dim=8, num_pseudopods=4)
    >>> encoder(torch.randn(2, 10, 32)).shape
    torch.Size([2, 10, 16])
    """

    def __init__(
        self,
        sensory_dim: int,
        latent_dim: int,
        head_dim: int,
        num_pseudopods: int,
        device: torch.device | str = "cpu",
        kernels: str = AUTO,
        metrics: MetricsCollector | None = None,
        *,
        slots: int | None = None,
        causal: bool = False,
        decay: float = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__()
        slots = num_pseudopods if slots is None else slots
        if not 1 <= num_pseudopods <= slots:
            raise ValueError(f"{num_pseudopods} pseudopods in {slots} slots")
        if min(sensory_dim, latent_dim, head_dim) < 1:
            raise ValueError(f"widths are 1 at least, found {sensory_dim}, {latent_dim} and {head_dim}")
        self.sensory_dim, self.latent_dim, self.causal, self.metrics = sensory_dim, latent_dim, causal, metrics
        self.empty = Tubes(decay)
        position = RopeSpec() if head_dim % 2 == 0 else NoPositionSpec()
        scope = Scope(width=latent_dim, context=1024, depth=1, position=position)
        one = AttentionSpec(heads=1, head_dim=head_dim, causal=causal)
        alive = None if slots == num_pseudopods else num_pseudopods
        plan = PoolSpec(of=one, slots=slots, alive=alive).plan(scope)
        self.weights: dict[str, Weight] = {
            "sense": linear("sense", latent_dim, sensory_dim),
            "norm": vector("norm", latent_dim, ONES),
            "tube": vector("tube", latent_dim, Init("constant", 0.1)),
            **dict(plan.named_weights("pool")),
        }
        """What is declared of each parameter, by path: what optimizers and newborns begin from."""
        self.sense, self.norm, self.tube = (nn.Parameter(torch.empty(self.weights[n].shape)) for n in _OWN)
        self.pool = _pool(make(plan))
        with torch.no_grad():
            for path, parameter in self.named_parameters():
                parameter.copy_(drawn(self.weights[path], Stream(seed).child("init", path)))
        for path, module in self.named_modules():
            if isinstance(module, Block):
                module.path, module.backend = path, kernels
        self.to(device)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Sequences by themselves: (B, T, sensory_dim) -> (B, T, latent_dim)."""
        if self.metrics is None:
            return self._encode(x_BTD, Flow(), None)
        with self.metrics.span("latency"):
            y_BTD = self._encode(x_BTD, Flow(), None)
        latency = self.metrics.get("latency_seconds")[-1]
        self.metrics.record("throughput", x_BTD.shape[0] * x_BTD.shape[1] / max(latency, 1e-9))
        return y_BTD

    def flow(
        self, x_BTD: Tensor, state: FlowState | None = None, feedback: Feedback | None = None
    ) -> tuple[Tensor, FlowState]:
        """The next T >= 1 vectors after a state (none yet: a fresh one), and the state after them.

        Where attention is not causal each call is a sequence by itself, and only the tubes remember. With feedback, how
        far the mean output is from what was recalled is published as surprise, and the tubes heed what came of it.

        Raises ValueError for no vector at all, and for a state of another number of rows.
        """
        state = FlowState(self.empty) if state is None else state
        rows = len(x_BTD) if state.tubes.total is None else len(state.tubes.total)
        if x_BTD.ndim == 3 and (x_BTD.shape[1] < 1 or len(x_BTD) != rows):
            raise ValueError(f"{rows} rows of one vector at least go on from this state, found {tuple(x_BTD.shape)}")
        flow = Flow(position=state.seen, states=state.blocks) if self.causal else Flow()
        recalled_BD = state.tubes.recall()
        y_BTD = self._encode(x_BTD, flow, recalled_BD)
        mean_BD, weight, tubes = y_BTD.mean(1), float(x_BTD.shape[1]), state.tubes
        if feedback is not None:
            if recalled_BD is not None:
                distance = (mean_BD - recalled_BD).norm() / recalled_BD.norm().clamp_min(1e-12)
                feedback.tell(SURPRISE, float(distance.detach()), "encoder")
            weight, tubes = weight * feedback.weight, replace(tubes, decay=feedback.decay)
        tubes = tubes.store(mean_BD, weight)
        return y_BTD, FlowState(tubes, dict(flow.next_states), state.seen + x_BTD.shape[1] if self.causal else 0)

    def alive(self) -> list[int]:
        """The slots that are not empty."""
        return self.pool.gain.detach().nonzero().flatten().tolist()

    def pseudopods(self) -> Iterator[Pseudopod]:
        """Each slot by itself, empty ones too."""
        return (Pseudopod(self.pool, slot) for slot in range(self.pool.slots))

    def stats(self) -> dict[str, float]:
        """The number of pseudopods, of slots and of parameters."""
        parameters = sum(parameter.numel() for parameter in self.parameters())
        return {"pool_size": len(self.alive()), "slots": self.pool.slots, "parameters": parameters}

    def _encode(self, x_BTD: Tensor, flow: Flow, recalled_BD: Tensor | None) -> Tensor:
        if x_BTD.ndim != 3 or x_BTD.shape[-1] != self.sensory_dim:
            raise ValueError(f"inputs are (B, T, {self.sensory_dim}), found {tuple(x_BTD.shape)}")
        h_BTD = flow.project(x_BTD, self.sense)
        if recalled_BD is not None:
            h_BTD = h_BTD + (self.tube * recalled_BD)[:, None]
        normed_BTD = F.rms_norm(h_BTD, (self.latent_dim,), self.norm.to(h_BTD.dtype), EPS)
        return h_BTD + flow.run(self.pool, normed_BTD)


_OWN = ("sense", "norm", "tube")


def _pool(block: Block) -> Pool:
    assert isinstance(block, Pool)
    return block
