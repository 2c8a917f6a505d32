"""One forward pass of an organism: what blocks share in it besides the activations that they hand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from evo.blocks.cache.policy import EVERYTHING, CachePolicy
from evo.blocks.dropout import Dropout
from evo.blocks.state import State
from evo.kernels.fused.project import project as plain_project
from evo.kernels.grouped import Groups


class Runs(Protocol):
    """What a flow can run: any block."""

    has_state: bool
    path: str

    def __call__(self, x: Tensor, flow: Flow, /) -> Tensor:
        """See `Block.forward`."""
        ...

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> State:
        """See `Block.initial_state`."""
        ...

    def extend(self, x_BTD: Tensor, state: Any, flow: Flow) -> tuple[Tensor, State]:
        """See `Block.extend`."""
        ...


class Project(Protocol):
    """The one place where a weight meets an input.

    Whoever wants half-precision copies of weights, the moments of their inputs, or a count of small activations passes
    a `Project` of its own; see `evo.kernels.fused.project` for what every one of them computes.
    """

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None, /
    ) -> Tensor:
        """x W^T + b: (..., in) -> (..., out); for a stack with groups, each row with the entry it belongs to."""
        ...


@runtime_checkable
class FoldingProject(Project, Protocol):
    """A `Project` that folds gains of channels into its copy of a weight, for less than they cost on activations."""

    def folded(self, x: Tensor, weight: Tensor, gains_P: Tensor, /) -> Tensor:
        """x diag(g) W^T; see `evo.kernels.fused.channel_gains`."""
        ...


@runtime_checkable
class RecastingProject(Project, Protocol):
    """A `Project` that tells a weight from what stands for it in this pass."""

    def recast(self, x: Tensor, weight: Tensor, form: Tensor, bias: Tensor | None, groups: Groups | None, /) -> Tensor:
        """x form^T + b, which counts as x meeting the weight."""
        ...


def projected_as(
    project: Project, x: Tensor, weight: Tensor, form: Tensor, bias: Tensor | None, groups: Groups | None
) -> Tensor:
    """x form^T + b where `form` stands for a weight, whoever looks on."""
    if isinstance(project, RecastingProject):
        return project.recast(x, weight, form, bias, groups)
    return project(x, form, bias, groups)


@dataclass
class Flow:
    """One forward pass; made anew for each, so nothing in it is global.

    signals: named values of this pass, each (B, T, ...): `tokens`, `embedding`, outputs of stages by name, and what
        blocks publish. A block reads the names that its plan lists in `inputs`.
    losses: auxiliary losses by name, already weighed, summed over the blocks that add to them: scalars.
    position: where in the sequence the first token of this pass stands.
    segments_BT: ids of packed documents, int64; only equal ids may see each other. None for one document a row.
    is_bound: whether `project` knows the tokens of this pass, so that it serves no other.
    tells_weights_apart: whether `project` does with some weights what it does with no copy of them, so that stacks of
        weights cannot stand for these.
    figures: what blocks tell of themselves by name, a list of scalars each; None where nobody asks.
    dropout: what training drops, in this pass; None where nothing is, as in every pass that scores or probes.
    states: decoding only: what blocks kept of the tokens so far, by path and visit. None in a parallel pass.
    seed: of what is drawn at random in a pass whose loss is minimised, an int64 scalar on its device. None in every
        other pass: what it is scored by and what decodes depends on no draw but that of `sample`, by place.
    sample: which of the draws from priors a pass without a seed has.
    cache: how decoding keeps keys and values.
    turns: in a pass whose loss is made of them, what the last stage gives at each of its turns, (B, T, D), and the
        chance that a token stops there, (B, T). None in every other pass.
    hands_states: whether what blocks keep is for a segment that sends no gradient back to the inputs of this one.
    forgets_layers: whether the backward pass computes each layer again instead of keeping what it needs of it.
    has_fixed_shapes: whether no shape may follow from values, for which the host would have to wait.
    """

    signals: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    losses: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    position: int = 0
    segments_BT: Tensor | None = None
    project: Project = plain_project
    is_bound: bool = False
    tells_weights_apart: bool = False
    figures: dict[str, list[Tensor]] | None = None
    states: Mapping[tuple[str, int], State] | None = None
    dropout: Dropout | None = None
    seed: Tensor | None = None
    sample: int = 0
    cache: CachePolicy = EVERYTHING
    turns: list[tuple[Tensor, Tensor]] | None = None
    hands_states: bool = False
    forgets_layers: bool = False
    has_fixed_shapes: bool = False
    next_states: dict[tuple[str, int], State] = field(default_factory=dict[tuple[str, int], Any])
    _visits: dict[str, int] = field(default_factory=dict[str, int])

    def run(self, block: Runs, x: Tensor) -> Tensor:
        """The output of a block for these tokens: its whole form, or the one that continues from its state.

        A block that runs several times in one pass (shared layers) has a state for each of its visits.
        """
        if self.states is None or not block.has_state:
            return block(x, self)
        visit = self._visits.get(block.path, 0)
        self._visits[block.path] = visit + 1
        key = block.path, visit
        state = self.states.get(key)
        if state is None:
            state = block.initial_state(x.shape[0], x.device, x.dtype)
        y, self.next_states[key] = block.extend(x, state, self)
        return y

    def inside(
        self,
        position: int,
        states: Mapping[tuple[str, int], State],
        signals: dict[str, Tensor] | None = None,
    ) -> Flow:
        """The same pass of decoding for a sequence of another length, which keeps states of its own.

        position: where in it the first token of this pass stands.
        """
        return replace(self, position=position, states=states, signals=signals or {}, next_states={}, _visits={})

    def copied(self) -> Flow:
        """The pass as it stands, for a block that runs again: it finds the same names, draws and visits, and leaves
        none, nor states."""
        return replace(
            self,
            signals=dict(self.signals),
            losses=dict(self.losses),
            figures=None,
            dropout=None if self.dropout is None else replace(self.dropout),
            next_states={},
            _visits=dict(self._visits),
        )

    def dropped(self, x: Tensor, place: str) -> Tensor:
        """x as training sees it at a place: some values are 0 and the others larger, if anything is dropped there."""
        return x if self.dropout is None else self.dropout(x, place)

    def dropped_rows(self, x: Tensor, place: str) -> Tensor:
        """The same of whole rows of the batch."""
        return x if self.dropout is None else self.dropout.rows(x, place)

    def add_loss(self, name: str, value: Tensor, weight: float = 1.0) -> None:
        """Add `weight * value`, a scalar, to the auxiliary loss of a name that the block's plan lists in `losses`."""
        weighed = value * weight
        self.losses[name] = self.losses[name] + weighed if name in self.losses else weighed

    def tell(self, name: str, value: Tensor) -> None:
        """Note a scalar under a name, if somebody asks for figures."""
        if self.figures is not None:
            self.figures.setdefault(name, []).append(value.detach())

    def grouped(self, groups: Groups) -> Flow:
        """The same pass for rows that are sorted by the entry of a stack that each meets: how experts run."""

        def project(x: Tensor, weight: Tensor, bias: Tensor | None = None, _: Groups | None = None) -> Tensor:
            return self.project(x, weight, bias, groups)

        return replace(self, project=project)
