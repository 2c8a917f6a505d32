"""Segments: a stage runs over one after the other, between vectors that it hands on, or from states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.blocks.stages.segments.spec import SegmentsPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import apart

Kept = Mapping[tuple[str, int], State]


@dataclass(frozen=True)
class SegmentsState(State):
    """seen: tokens so far. memory_BMD: the vectors around the segment of the latest; None before the first. blocks:
    what the stage inside kept of it."""

    seen: int = 0
    memory_BMD: Tensor | None = None
    blocks: Kept = field(default_factory=dict[tuple[str, int], State])


class Segments(Stage):
    """What f(m_s, segment s, m_s) gives the tokens, m_(s+1) being what it gives the last vectors; or what f gives each
    segment behind those before, whose states send no gradient back."""

    learned: nn.Parameter | None
    new: nn.Parameter | None
    new_bias: nn.Parameter | None
    input_gate: nn.Parameter | None
    input_gate_bias: nn.Parameter | None
    forget_gate: nn.Parameter | None
    forget_gate_bias: nn.Parameter | None
    keep: nn.Parameter | None

    def __init__(self, plan: SegmentsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.every, self.count, self.backprop = plan.every, plan.count, plan.backprop
        (body,) = children.values()
        assert isinstance(body, Stage)
        self.of = (body,)

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        return Residual(flow.run(self, self.merged(inputs["x"])))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D). Segments of packed documents begin with each of them."""
        if flow.segments_BT is None:
            return self._passed(x_BTD, flow)
        alone = replace(flow, segments_BT=None)
        return apart(lambda x_1ND: self._passed(x_1ND, alone), x_BTD, flow.segments_BT)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> SegmentsState:
        """No token yet."""
        del batch, device, dtype
        return SegmentsState()

    def extend(self, x_BTD: Tensor, state: SegmentsState, flow: Flow) -> tuple[Tensor, SegmentsState]:
        """The next T positions: a segment hands its vectors on when a token behind it comes."""
        if self.learned is None:
            y_BTD, blocks = self._continued(x_BTD, state.seen, state.blocks, flow)
            return y_BTD, SegmentsState(state.seen + x_BTD.shape[1], None, blocks)
        found: list[Tensor] = []
        while x_BTD.shape[1]:
            at = state.seen % self.every
            part_BND, x_BTD = x_BTD[:, : self.every - at], x_BTD[:, self.every - at :]
            memory_BMD, blocks = self._around(part_BND, state, flow) if at == 0 else (state.memory_BMD, state.blocks)
            assert memory_BMD is not None
            z_BND = part_BND if at else torch.cat((memory_BMD, part_BND), dim=1)
            y_BND, blocks = self._continued(z_BND, self.count + at if at else 0, blocks, flow)
            found.append(y_BND if at else y_BND[:, self.count :])
            state = SegmentsState(state.seen + part_BND.shape[1], memory_BMD, blocks)
        return torch.cat(found, dim=1), state

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of its stage, over one segment."""
        part_BND = x_BTD[:, : self.every]
        if self.learned is None:
            yield from self.of[0].layer_problems(part_BND, flow)
            return
        yield from self.of[0].layer_problems(torch.cat((self._first(part_BND), part_BND), dim=1), flow)

    def _first(self, x_BTD: Tensor) -> Tensor:
        assert self.learned is not None
        return self.learned.to(x_BTD.dtype).expand(x_BTD.shape[0], -1, -1)

    def _passed(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """Whole segments, the first of them at the beginning."""
        if self.learned is None:
            return self._from_states(x_BTD, replace(flow, hands_states=True))
        memory_BMD, found = self._first(x_BTD), list[Tensor]()
        parts = x_BTD.split(self.every, dim=1)
        for index, part_BND in enumerate(parts):
            behind = () if index == len(parts) - 1 else (memory_BMD,)  # nobody would read them
            z_BND = torch.cat((memory_BMD, part_BND, *behind), dim=1)
            y_BND = self.of[0].run({"x": [z_BND]}, replace(flow, signals={})).value()
            end = self.count + part_BND.shape[1]
            found.append(y_BND[:, self.count : end])
            if behind:
                met_BMD = y_BND[:, end:]
                if (
                    self.backprop is not None and (index + 1) % self.backprop == 0
                ):  # the gates between learn all the same
                    memory_BMD, met_BMD = memory_BMD.detach(), met_BMD.detach()
                memory_BMD = self._handed(memory_BMD, met_BMD, flow)
        return torch.cat(found, dim=1)

    def _from_states(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """The same without vectors: each goes on from the states of all before."""
        blocks, seen, found = dict[tuple[str, int], State](), 0, list[Tensor]()
        for part_BND in x_BTD.split(self.every, dim=1):
            y_BND, kept = self._continued(part_BND, seen, blocks, flow)
            blocks, seen = {key: state.cut() for key, state in kept.items()}, seen + part_BND.shape[1]
            found.append(y_BND)
        return torch.cat(found, dim=1)

    def _around(self, x_BTD: Tensor, state: SegmentsState, flow: Flow) -> tuple[Tensor, Kept]:
        """The vectors around a segment that begins, and what the stage inside has kept of it: nothing."""
        if state.memory_BMD is None:
            return self._first(x_BTD), {}
        y_BMD, _ = self._continued(state.memory_BMD, self.count + self.every, state.blocks, flow)
        return self._handed(state.memory_BMD, y_BMD, flow), {}

    def _handed(self, memory_BMD: Tensor, y_BMD: Tensor, flow: Flow) -> Tensor:
        """The vectors around the next segment, of those around this one and what the stage made of them behind it
        (Hutchins et al. 2203.07852)."""
        if self.new is None:
            return y_BMD
        new_BMD = flow.project(y_BMD, self.new, self.new_bias)
        if self.keep is not None:
            kept_D = self.keep.sigmoid().to(memory_BMD.dtype)
            return kept_D * memory_BMD + (1 - kept_D) * new_BMD
        assert self.input_gate is not None
        assert self.forget_gate is not None
        input_BMD = (flow.project(y_BMD, self.input_gate, self.input_gate_bias) - 1).sigmoid()
        forget_BMD = (flow.project(y_BMD, self.forget_gate, self.forget_gate_bias) + 1).sigmoid()
        return forget_BMD * memory_BMD + input_BMD * new_BMD.tanh()

    def _continued(self, z_BND: Tensor, position: int, blocks: Kept, flow: Flow) -> tuple[Tensor, Kept]:
        """What the stage gives the next vectors of a segment, and what it keeps then."""
        inner = flow.inside(position, blocks)
        y_BND = self.of[0].run({"x": [z_BND]}, inner).value()
        return y_BND, inner.next_states
