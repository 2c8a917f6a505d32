"""A pool of pseudopods: all slots in one product where their mixer can stand side by side, or over stacked weights."""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, sum_scaled
from evo.blocks.flow import Flow, FoldingProject, Project
from evo.blocks.pool.spec import PoolPlan
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused.channel_gains import living, scaled_channels
from evo.kernels.grouped import Groups
from evo.kernels.operators import is_inlining


@dataclass(frozen=True)
class Apart:
    """Slots alone. outputs_RTD: what they give, slot p on rows p, p + P, ...

    hidden: what enters their projections to the stream, or what they give where they have none: a tensor (P, N, C) for
    each number N of vectors that projections take in.
    """

    outputs_RTD: Tensor
    hidden: tuple[Tensor, ...]


class Pool(Block):
    """sum_p gain_p f_p(x). Where slots stand side by side, the gains meet what enters their common output map."""

    gain: nn.Parameter

    def __init__(self, plan: PoolPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.slots = plan, plan.slots
        self.mixers = tuple(children.values())
        self.publishes = any(block.outputs for _, child in plan.children for _, block in child.named_blocks(""))
        self.writers = [
            [path.lstrip(".") for path, weight in child.named_weights("") if weight.writes_residual]
            for _, child in plan.children
        ]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        if self.plan.side_by_side:
            return replace(flow, project=self._scaled(flow.project)).run(self.mixers[0], x_BTD)
        gains_P = living(self.gain).to(x_BTD.dtype)
        if self._is_stacked(flow):
            return torch.einsum("p,pbtd->btd", gains_P, self._stacked(x_BTD, flow))
        return sum_scaled(gains_P, [flow.run(mixer, x_BTD) for mixer in self.mixers])

    def apart(self, x_RTD: Tensor, flow: Flow) -> Apart:
        """Each slot by itself on rows of its own, whatever its gain: slot p on rows p, p + P, ... of (R, T, D).

        What is told of hidden vectors is of the first of these, or of all where they stand sorted.
        flow: its signals have R / P rows, those of one slot, and its shapes are fixed.
        """
        if self.plan.side_by_side:
            return self._apart_together(x_RTD, flow)
        notes: list[list[Tensor]] = [[] for _ in self.mixers]
        flows = [replace(flow, project=self._noted(flow.project, index, notes[index])) for index in range(self.slots)]
        outputs = [
            f.run(mixer, x_RTD[p :: self.slots]) for p, (f, mixer) in enumerate(zip(flows, self.mixers, strict=True))
        ]
        hidden = [_by_length(seen or [y], len(y)) for seen, y in zip(notes, outputs, strict=True)]
        return Apart(torch.stack(outputs, 1).flatten(0, 1), tuple(map(torch.stack, zip(*hidden, strict=True))))

    def _apart_together(self, x_RTD: Tensor, flow: Flow) -> Apart:
        """`apart` where slots stand side by side: the cost of R / P rows through all of them."""
        seen = list[Tensor]()
        project = self._noted(self._by_slot(flow.project), 0, seen)
        outputs_RTD = replace(flow, project=project).run(self.mixers[0], x_RTD)
        hidden_TPC = seen[0][0].unflatten(-1, (self.slots, -1))
        return Apart(outputs_RTD, (hidden_TPC.movedim(1, 0),))

    def slot_tensors(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """By slot, its own share of tensors; see `share`."""
        return [self.share(tensors, slot) for slot in range(self.slots)]

    def share(self, tensors: Mapping[str, Tensor], slot: int) -> dict[str, Tensor]:
        """A slot's own share of tensors that are shaped like some of this block's weights, by their paths in one slot.

        Views: what is written into them is written into the tensors. The gains are not among them.
        """
        if not self.plan.side_by_side:
            prefix = f"{self.plan.children[slot][0]}."
            return {path.removeprefix(prefix): t for path, t in tensors.items() if path.startswith(prefix)}
        (name, _), axes = self.plan.children[0], self.plan.side_by_side
        held = [(weight, axis) for weight, axis in axes if f"{name}.{weight}" in tensors]
        wholes = {weight: (tensors[f"{name}.{weight}"], axis) for weight, axis in held}
        sizes = {weight: whole.shape[axis] // self.slots for weight, (whole, axis) in wholes.items()}
        return {w: whole.narrow(axis, slot * sizes[w], sizes[w]) for w, (whole, axis) in wholes.items()}

    def slot_squares(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The sum of squares of each slot's share of such tensors, (P,), in few launches."""
        if not self.plan.side_by_side:
            norms = [torch.stack(torch._foreach_norm(list(own.values()))) for own in self.slot_tensors(tensors)]
            return torch.stack(norms).square().sum(1)
        (name, _), axes = self.plan.children[0], self.plan.side_by_side
        cut = [(tensors[f"{name}.{weight}"].unflatten(axis, (self.slots, -1)), axis) for weight, axis in axes]
        norms = [torch.linalg.vector_norm(t, dim=[d for d in range(t.ndim) if d != axis]) for t, axis in cut]
        return torch.stack(norms).square().sum(0)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of every mixer."""
        return [problem for mixer in self.mixers for problem in mixer.problems(x_BTD, flow)]

    def _is_stacked(self, flow: Flow) -> bool:
        """Whether slots run as one over their weights in stacks: in passes whose loss is minimised, as nobody watches
        single weights there, and as every launch counts. What is drawn by the place of a call, and what later blocks
        read, would not be each slot's own, and a stack is no weight that adapters know; a trace unrolls the slots."""
        is_trained = flow.seed is not None and torch.is_grad_enabled()
        is_traced = torch.compiler.is_compiling() or is_inlining()
        is_apart = self.publishes or flow.tells_weights_apart
        return is_trained and not is_traced and flow.dropout is None and not is_apart

    def _stacked(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What each slot gives, (P, B, T, D): the first slot's code, run on the weights of all (`torch.func.vmap`)."""
        first, asks = self.mixers[0], flow.figures is not None
        weights_P = {
            path: torch.stack([_weight(mixer, path) for mixer in self.mixers]) for path, _ in first.named_parameters()
        }

        def one(weights: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, list[Tensor]]]:
            inner = replace(flow, signals=dict(flow.signals), losses={}, figures={} if asks else None)
            y_BTD: Tensor = torch.func.functional_call(first, weights, (x_BTD, inner))
            return y_BTD, inner.losses, inner.figures or {}

        outputs_PBTD, losses, figures = torch.func.vmap(one)(weights_P)
        for name, loss_P in losses.items():
            flow.add_loss(name, loss_P.sum())
        for name, told in figures.items():
            for values_P in told:
                for value in values_P:
                    flow.tell(name, value)
        return outputs_PBTD

    def _writers(self, index: int) -> Iterator[Tensor]:
        """The weights of a mixer that write to the stream."""
        for path in self.writers[index]:
            yield _weight(self.mixers[index], path)

    def _scaled(self, project: Project) -> Project:
        """Projections in which each slot's share of what enters the output map, which has no bias, meets its gain."""
        (writer,) = self._writers(0)

        def scaled(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
            if weight is not writer:
                return project(x, weight, bias, groups)
            if isinstance(project, FoldingProject):
                return project.folded(x, weight, self.gain)
            return project(scaled_channels(x, self.gain), weight, bias, groups)

        return scaled

    def _by_slot(self, project: Project) -> Project:
        """Projections in which each slot's share of a weight meets rows of its own, so that inside there is one row for
        all slots: what enters has R rows, what is between R / P, and what leaves R again."""
        axes, mixer = dict(self.plan.side_by_side), self.mixers[0]
        readers = {id(_weight(mixer, path)) for path, axis in axes.items() if axis == 0}
        (writer,) = self._writers(0)

        def by_slot(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
            if weight is writer:
                x_QTPC, weight_DPC = x.unflatten(-1, (self.slots, -1)), weight.unflatten(1, (self.slots, -1))
                return torch.einsum("qtpc,dpc->qptd", x_QTPC, weight_DPC).flatten(0, 1)
            if id(weight) not in readers:
                return project(x, weight, bias, groups)
            x_QPTD, weight_PCD = x.unflatten(0, (-1, self.slots)), weight.unflatten(0, (self.slots, -1))
            y = torch.einsum("qptd,pcd->qtpc", x_QPTD, weight_PCD).flatten(-2)
            return y if bias is None else y + bias

        return by_slot

    def _noted(self, project: Project, index: int, seen: list[Tensor]) -> Project:
        """Projections that note what enters those of one mixer that write to the stream."""
        writers = {id(weight) for weight in self._writers(index)}

        def noted(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
            if id(weight) in writers:
                seen.append(x)
            return project(x, weight, bias, groups)

        return noted


def _weight(mixer: nn.Module, path: str) -> Tensor:
    """A weight by its path, a tensor that `torch.func` has put in its place too."""
    *inside, name = path.split(".")
    return getattr(mixer.get_submodule(".".join(inside)), name)


def _by_length(seen: Sequence[Tensor], rows: int) -> list[Tensor]:
    """What enters products, (N, C) for each number N of vectors: those of the first of some rows, or all of them where
    they stand sorted by whose map they meet."""
    found: dict[int, list[Tensor]] = {}
    for x in seen:
        x_NC = x[0].flatten(0, -2) if x.ndim > 2 and len(x) == rows else x.flatten(0, -2)
        found.setdefault(len(x_NC), []).append(x_NC)
    return [torch.cat(parts, dim=-1) for parts in found.values()]
