"""Passes in which the readout is apart from the table of tokens that it may share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from evo.blocks.flow import Flow, Project, projected_as
from evo.compiler.organism import Organism
from evo.kernels.fused.project import project as plain_project
from evo.kernels.grouped import Groups


def reading_apart(flow: Flow, model: Organism) -> Flow:
    """The same pass, but where a mixture of softmaxes reads out by the table of tokens, no gradient reaches that by the
    readout: its logits are normalised, so each depends on the rows of all symbols, whatever the tokens are."""
    if model.plan.readout_mixture is None or model.plan.readout is not None:
        return flow
    return replace(flow, project=_Apart(flow.project, model.embedding.weight))


@dataclass(frozen=True)
class _Apart:
    """A `Project` that meets the table as if it was no weight."""

    inner: Project
    table: Tensor

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None, /
    ) -> Tensor:
        if weight is self.table:
            return plain_project(x, weight.detach(), bias)
        return self.inner(x, weight, bias, groups)

    def recast(self, x: Tensor, weight: Tensor, form: Tensor, bias: Tensor | None, groups: Groups | None, /) -> Tensor:
        if weight is self.table:
            return plain_project(x, form.detach(), bias)
        return projected_as(self.inner, x, weight, form, bias, groups)
