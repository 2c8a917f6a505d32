"""A stage over chunks: a router finds where they begin, their first tokens pass, and what comes back is smoothed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.blocks.shift import shifted
from evo.blocks.stages.chunks.spec import ChunksPlan
from evo.blocks.stages.stage import Passed, Stage
from evo.blocks.subsequence import Seen, Subsequence, extended
from evo.dsl.spec import TOKENS
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_starts
from evo.kernels.scan import plan as plan_scan
from evo.kernels.scan import scan


@dataclass(frozen=True)
class ChunksState(State):
    """The token before these, (B, D), what tokens of the last chunk are given, (B, D), and what the stage inside kept
    of the chunks so far, a row each."""

    before_BD: Tensor
    smooth_BD: Tensor
    rows: tuple[Seen, ...]
    seen: int = 0


class Chunks(Stage):
    """STE(c) smooth(f(the first tokens of chunks)) + R x (Hwang et al. 2507.07955, section 2.2)."""

    q: nn.Parameter
    k: nn.Parameter
    residual: nn.Parameter
    beyond: nn.Parameter | None

    def __init__(self, plan: ChunksPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        (body,) = children.values()
        assert isinstance(body, Stage)
        self.of = (Passed(body),)

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        return Residual(flow.run(self, self.merged(inputs["x"])))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What tokens are given, (B, T, D)."""
        chance_BT = self._chances(x_BTD, None, flow)
        begins_BT = chance_BT >= 0.5
        first = Subsequence.of(begins_BT, x_BTD.shape[1] if flow.has_fixed_shapes else None)
        y_BND = self._narrowed(self.of[0](self._widened(first.take(x_BTD)), first.flow(flow, (TOKENS,))))
        if flow.seed is not None and self.plan.ratio_loss:
            flow.add_loss("ratio", self._ratio(chance_BT, begins_BT), self.plan.ratio_loss)
        flow.tell("chunk_share", begins_BT.float().mean())
        return self._given(x_BTD, first.back(y_BND), chance_BT, begins_BT, None, flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> ChunksState:
        """No token yet."""
        zeros_BD = torch.zeros(batch, self.q.shape[0], device=device, dtype=dtype)
        return ChunksState(zeros_BD, zeros_BD.to(torch.promote_types(dtype, torch.float32)), (Seen(),) * batch)

    def extend(self, x_BTD: Tensor, state: ChunksState, flow: Flow) -> tuple[Tensor, ChunksState]:
        """The next T positions."""
        chance_BT = self._chances(x_BTD, state if state.seen else None, flow)
        begins_BT = chance_BT >= 0.5
        y_BTX, rows = extended(self.of[0], self._widened(x_BTD), begins_BT, state.rows, flow, (TOKENS,))
        y_BTD = self._narrowed(y_BTX)
        given_BTD, smooth_BD = self._given(x_BTD, y_BTD, chance_BT, begins_BT, state.smooth_BD, flow)
        return given_BTD, ChunksState(x_BTD[:, -1], smooth_BD, rows, state.seen + x_BTD.shape[1])

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """The scan, and those of its stage over as many tokens as there are."""
        yield self.path, [plan_scan(x_BTD, x_BTD)]
        yield from self.of[0].stage.layer_problems(self._widened(x_BTD), flow)

    def _chances(self, x_BTD: Tensor, state: ChunksState | None, flow: Flow) -> Tensor:
        """p_t = (1 - cos(q_t, k_(t-1))) / 2, and 1 at the first token of a text, (B, T), float32 or wider (eq. 4)."""
        before_BTD = shifted(x_BTD, None if state is None else state.before_BD, flow.segments_BT)
        q_BTD, k_BTD = flow.project(x_BTD, self.q), flow.project(before_BTD, self.k)
        compute = compute_dtype(x_BTD)
        alike_BT = F.cosine_similarity(q_BTD.to(compute), k_BTD.to(compute), dim=-1)
        chance_BT = (0.5 * (1.0 - alike_BT)).clamp(0.0, 1.0)
        if flow.segments_BT is not None:
            is_first_BT = document_starts(flow.segments_BT)
        else:
            is_first_BT = torch.zeros_like(chance_BT, dtype=torch.bool)
        if state is None:
            at_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
            is_first_BT = is_first_BT | (at_T == 0)
        return chance_BT.masked_fill(is_first_BT, 1.0)

    def _widened(self, x_BTD: Tensor) -> Tensor:
        """Tokens as wide as the stage."""
        if self.beyond is None:
            return x_BTD
        return torch.cat((x_BTD, self.beyond.to(x_BTD.dtype).expand(*x_BTD.shape[:-1], -1)), dim=-1)

    def _narrowed(self, y_BTX: Tensor) -> Tensor:
        return y_BTX if self.beyond is None else y_BTX[..., : self.q.shape[0]]

    def _given(
        self,
        x_BTD: Tensor,
        y_BTD: Tensor,
        chance_BT: Tensor,
        begins_BT: Tensor,
        before_BD: Tensor | None,
        flow: Flow,
    ) -> tuple[Tensor, Tensor]:
        """What tokens are given, and what those of the last chunk are (eqs. 5 to 9): a sum over chunks decays by 1 - p
        where one begins, and stays as it is between."""
        taken_BT1 = (chance_BT * begins_BT)[..., None]
        decay_BTD = (1.0 - taken_BT1).expand(*x_BTD.shape)
        smooth_BTD, last_BD = scan(
            decay_BTD,
            taken_BT1 * torch.where(begins_BT[..., None], y_BTD, 0.0).to(taken_BT1.dtype),
            before_BD,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        sure_BT1 = torch.where(begins_BT, chance_BT, 1.0 - chance_BT)[..., None]
        one_BT1 = sure_BT1 + (1.0 - sure_BT1).detach()
        return flow.project(x_BTD, self.residual) + (one_BT1 * smooth_BTD).to(x_BTD.dtype), last_BD

    def _ratio(self, chance_BT: Tensor, begins_BT: Tensor) -> Tensor:
        """N / (N - 1) ((N - 1) F G + (1 - F) (1 - G)) (eq. 10)."""
        share, mean, size = begins_BT.to(chance_BT.dtype).mean(), chance_BT.mean(), self.plan.size
        return size / (size - 1.0) * ((size - 1.0) * share * mean + (1.0 - share) * (1.0 - mean))
