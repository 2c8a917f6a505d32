"""Whether built blocks do what their plans promise: what other rooms read off the plan must be true of the module."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.dsl.plan import ADAPTERS
from evo.kernels.fused.project import project
from evo.kernels.grouped import Groups

PROBE_TOKENS = 2


class Met:
    """A `Project` that remembers which weights met an input."""

    def __init__(self) -> None:
        self.weights: set[int] = set()

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
        return self.recast(x, weight, weight, bias, groups)

    def recast(self, x: Tensor, weight: Tensor, form: Tensor, bias: Tensor | None, groups: Groups | None) -> Tensor:
        """See `RecastingProject`."""
        self.weights.add(id(weight))
        return project(x, form, bias, groups)


@torch.no_grad()
def broken_promises(model: Organism) -> Iterator[str]:
    """What one short pass shows, a sentence each.

    A linear map that no pass hands to `flow.project` would be left out of the moments that snapshots judge by, of the
    count of small activations, and of half-precision copies: the same function, measured in another way. An auxiliary
    loss that no plan names would be trained on and reported nowhere. Maps that need more tokens than a short pass has
    are taken at their word.
    """
    met = Met()
    parameter = next(model.parameters())
    flow = Flow(project=met, seed=torch.zeros((), dtype=torch.int64, device=parameter.device))
    tokens = min(PROBE_TOKENS + model.plan.tokens_ahead, model.plan.context)
    tokens_1T = torch.zeros(1, tokens, dtype=torch.int64, device=parameter.device)
    model.losses(tokens_1T, tokens_1T, None, flow)
    late = tuple(_late_paths(model))
    for path, weight in model.named_parameters():
        if model.plan.weights[path].is_linear and id(weight) not in met.weights and not f"{path}.".startswith(late):
            yield f"{path} is planned as a linear map, but the module never calls flow.project with it"
    for name in sorted(flow.losses.keys() - set(model.plan.losses)):
        yield f"a block adds the loss '{name}', which no plan lists in `losses`"


def _late_paths(model: Organism) -> Iterator[str]:
    """How paths of maps begin of which a short pass shows nothing, and those of their adapters."""
    for path, block in model.plan.named_blocks():
        for name in block.late:
            yield from (f"{path}.{name}.", f"{path}.{ADAPTERS}.{name}.")


def require_promises(model: Organism) -> None:
    """Raise DiagnosticError (EVO512) for a model whose blocks do not do what their plans promise."""
    found = list(broken_promises(model))
    if found:
        help = "a block's module and its plan must agree; see ADDING.md"
        raise DiagnosticError([Diagnostic("EVO512", sentence, None, help) for sentence in found])
