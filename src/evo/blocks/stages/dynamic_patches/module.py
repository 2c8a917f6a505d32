"""Patches whose lengths follow from the tokens: attention makes each a vector, a stage runs over these, and tokens get
what it makes of the latest that has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.blocks.stages.dynamic_patches.patchers.module import Patcher, granted
from evo.blocks.stages.dynamic_patches.spec import DynamicPatchesPlan
from evo.blocks.stages.stage import Passed, Stage
from evo.blocks.subsequence import Seen, extended, longest
from evo.dsl.organism import vectors_of
from evo.kernels.attention import Stencil, attend
from evo.kernels.attention import plan as plan_attention
from evo.kernels.dispatch import KernelCall

ALL = Stencil(causal=False)


@dataclass(frozen=True)
class DynamicPatchesState(State):
    """What a stage over patches keeps between tokens.

    ended_B: how many patches have ended, int64. open_BSD, is_open_BS: the tokens of the patch that has not, behind
    others where rows differ. given_BC: what tokens get until it ends. rows: what the stage inside kept, a row each.
    """

    ended_B: Tensor
    open_BSD: Tensor
    is_open_BS: Tensor
    given_BC: Tensor
    rows: tuple[Seen, ...]


class DynamicPatches(Stage):
    """up(f(patch 0, patch 1, ...)): each output goes to the tokens from the last of its patch until the next ends."""

    pooled: nn.Parameter
    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter
    down: nn.Parameter | None
    up: nn.Parameter
    patcher: Patcher
    q_norm: Norm
    kv_norm: Norm

    def __init__(self, plan: DynamicPatchesPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.signal = plan, vectors_of(plan.name)
        body = next(child for child in children.values() if isinstance(child, Stage))
        self.of = (Passed(body),)

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D): the mean of the vectors that each token gets, which are put into the pass."""
        return Residual(flow.run(self, self.merged(inputs["x"])))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D). Raises ValueError for packed documents, whose bounds cut through patches."""
        if flow.segments_BT is not None:
            raise ValueError("patches do not keep packed documents apart: they run on from one into the next")
        batch, tokens = x_BTD.shape[:2]
        wanted_BT = flow.run(self.patcher, x_BTD)
        ends_BT = ends(wanted_BT, self.plan.size, wanted_BT.new_zeros(batch, dtype=torch.int64), 0)
        most = 1 + (tokens - 1) // self.plan.size
        count = most if flow.has_fixed_shapes else min(most, longest(ends_BT))
        ended_BT = ends_BT.cumsum(1)
        patches_BNW = self._patches(x_BTD, F.pad(ended_BT[:, :-1], (1, 0)), count, flow)
        y_BNW = self.of[0](patches_BNW, replace(flow, signals={}))
        flow.tell("tokens_per_patch", tokens / ended_BT[:, -1].double().mean())
        return self._given(flow.project(y_BNW, self.up).to(x_BTD.dtype), ended_BT - 1, flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> DynamicPatchesState:
        """No token yet."""
        wide, width = self.pooled.shape
        return DynamicPatchesState(
            torch.zeros(batch, dtype=torch.int64, device=device),
            torch.empty(batch, 0, width, device=device, dtype=dtype),
            torch.empty(batch, 0, device=device, dtype=torch.bool),
            torch.zeros(batch, wide, device=device, dtype=dtype),
            (Seen(),) * batch,
        )

    def extend(self, x_BTD: Tensor, state: DynamicPatchesState, flow: Flow) -> tuple[Tensor, DynamicPatchesState]:
        """The next T positions: patches that end among them run through the stage."""
        wanted_BT = flow.run(self.patcher, x_BTD)
        ends_BT = ends(wanted_BT, self.plan.size, state.ended_B, flow.position)
        ended_BT = ends_BT.cumsum(1)
        before_BS = F.pad(ended_BT[:, :-1], (state.is_open_BS.shape[1] + 1, 0))
        is_open_BS = F.pad(state.is_open_BS, (0, x_BTD.shape[1]), value=True)
        all_BSD = torch.cat((state.open_BSD, x_BTD), dim=1)
        count = longest(ends_BT)
        patches_BNW = self._patches(all_BSD, before_BS.masked_fill(~is_open_BS, count), count, flow)
        is_there_BN = torch.arange(count, device=x_BTD.device) < ended_BT[:, -1:]
        y_BNW, rows = extended(self.of[0], patches_BNW, is_there_BN, state.rows, flow)
        vectors_BNC = torch.cat((state.given_BC[:, None], flow.project(y_BNW, self.up).to(x_BTD.dtype)), dim=1)
        y_BTD = self._given(vectors_BNC, ended_BT, flow)
        is_open_BS = is_open_BS & (before_BS == ended_BT[:, -1:])
        kept = int(is_open_BS.sum(1).max())
        return y_BTD, DynamicPatchesState(
            state.ended_B + ended_BT[:, -1],
            all_BSD[:, all_BSD.shape[1] - kept :],
            is_open_BS[:, is_open_BS.shape[1] - kept :],
            _rows(vectors_BNC, ended_BT[:, -1:])[:, 0],
            rows,
        )

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """That of its own attention, and those of its stage, over as many patches as there may be."""
        yield from super().layer_problems(x_BTD, flow)
        patches = 1 + (x_BTD.shape[1] - 1) // self.plan.size
        wide_BNW = x_BTD.new_empty(x_BTD.shape[0], patches, self.up.shape[1])
        yield from self.of[0].stage.layer_problems(wide_BNW, flow)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """That of the vectors of patches, attending to tokens."""
        patches = 1 + (x_BTD.shape[1] - 1) // self.plan.size
        before_BT = torch.zeros(x_BTD.shape[:2], dtype=torch.int64, device=x_BTD.device)
        return [self._attended(self._vectors(x_BTD, before_BT, patches, flow), x_BTD, before_BT, flow, plan_attention)]

    def _vectors(self, x_BSD: Tensor, number_BS: Tensor, count: int, flow: Flow) -> Tensor:
        """Maps of the largest values of each patch, (B, N, J, D)."""
        at_BSD = number_BS.clamp(max=count)[..., None].expand_as(x_BSD)
        most_BND = x_BSD.new_zeros(x_BSD.shape[0], count + 1, x_BSD.shape[2])
        most_BND = most_BND.scatter_reduce(1, at_BSD, x_BSD, "amax", include_self=False)[:, :count]
        return flow.project(most_BND, self.pooled).to(x_BSD.dtype).unflatten(-1, (self.plan.vectors, -1))

    def _attended(
        self, vectors_BNJD: Tensor, x_BSD: Tensor, number_BS: Tensor, flow: Flow, run: Callable[..., Any]
    ) -> Any:
        """What the vectors of each patch see in its tokens, by heads, (B, N J, H, K)."""
        q_BQD = self.q_norm(vectors_BNJD, flow).flatten(1, 2)
        kv_BSD = self.kv_norm(x_BSD, flow)
        q_BQHK = flow.project(q_BQD, self.q).unflatten(-1, (self.plan.heads, -1))
        k_BSGK, v_BSGK = (flow.project(kv_BSD, w).unflatten(-1, (self.plan.kv_heads, -1)) for w in (self.k, self.v))
        numbers_N = torch.arange(vectors_BNJD.shape[1], device=x_BSD.device)
        is_own_BQS = (numbers_N[:, None] == number_BS[:, None]).repeat_interleave(self.plan.vectors, dim=1)
        hidden = torch.finfo(q_BQHK.dtype).min / 2  # finite: patches that fill rows up have no token of their own
        bias_B1QS = torch.zeros_like(is_own_BQS, dtype=q_BQHK.dtype).masked_fill(~is_own_BQS, hidden)[:, None]
        return run(q_BQHK, k_BSGK, v_BSGK, stencil=ALL, bias_HTS=bias_B1QS, repeatable=True)

    def _patches(self, x_BSD: Tensor, number_BS: Tensor, count: int, flow: Flow) -> Tensor:
        """The first `count` patches of each row, (B, N, W), made of the tokens that have their numbers."""
        vectors_BNJD = self._vectors(x_BSD, number_BS, count, flow)
        seen_BQHK = self._attended(vectors_BNJD, x_BSD, number_BS, flow, partial(attend, backend=self.backend))
        seen_BQD = flow.project(seen_BQHK.flatten(2), self.o).to(x_BSD.dtype)
        wide_BNC = (self.plan.skip * vectors_BNJD + seen_BQD.view_as(vectors_BNJD)).flatten(2)
        return wide_BNC if self.down is None else flow.project(wide_BNC, self.down).to(x_BSD.dtype)

    def _given(self, vectors_BNC: Tensor, at_BT: Tensor, flow: Flow) -> Tensor:
        """The mean of the vectors of the patch that each token reads, (B, T, D); puts these into the pass."""
        given_BTJD = _rows(vectors_BNC, at_BT).unflatten(-1, (self.plan.vectors, -1))
        flow.signals[self.signal] = given_BTJD
        return given_BTJD.mean(2)


def ends(wanted_BT: Tensor, size: int, ended_B: Tensor, position: int) -> Tensor:
    """Whether a patch ends at each token, (B, T): at the first of all, and at wanted ones that leave patches of `size`
    tokens on average.

    ended_B: how many have before the first of these tokens, which stands at `position`.
    """
    places_T = torch.arange(position, position + wanted_BT.shape[1], device=wanted_BT.device)
    return granted(wanted_BT, 1 + places_T // size, ended_B, position)


def _rows(x_BNC: Tensor, at_BT: Tensor) -> Tensor:
    """Rows by number, (B, N, C) -> (B, T, C); its gradient is the same byte for byte in every run."""
    batch, count = x_BNC.shape[:2]
    starts_B1 = torch.arange(batch, device=at_BT.device)[:, None] * count
    return F.embedding(at_BT + starts_B1, x_BNC.flatten(0, 1))
