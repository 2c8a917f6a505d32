"""A module that does not keep its plan's promises is refused, however it spells what it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evo.base.diagnostics import DiagnosticError
from evo.blocks.feedforward.module import Dense
from evo.blocks.flow import Flow
from evo.compiler.build import build
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan
from evo.compiler.promises import Met, broken_promises, require_promises
from evo.kernels.fused import ACTS

Spelling = Callable[[Tensor, Tensor, Flow], Tensor]
AROUND: dict[str, Spelling] = {
    "matmul": lambda x, weight, flow: x @ weight.T,
    "einsum": lambda x, weight, flow: torch.einsum("bti,oi->bto", x, weight),
    "F.linear": lambda x, weight, flow: F.linear(x, weight),
}


def spelled(planned: Any, spelling: Spelling) -> Organism:
    """A model whose first feed-forward computes its last product in a way of its own."""
    model = build(planned({"name": "s", "mix": {"kind": "convolution"}, "ffn": {"kind": "dense"}}), 0)
    ffn = model.stages["s"].child("0").child("ffn")
    assert isinstance(ffn, Dense)

    def forward(x_BTD: Tensor, flow: Flow) -> Tensor:
        return spelling(ACTS[ffn.word](flow.project(x_BTD, ffn.up)), ffn.down, flow)

    ffn.forward = forward  # type: ignore[method-assign]
    return model


def test_every_shipped_block_keeps_its_promises(rich: Plan) -> None:
    """Each planned linear map of the built-in blocks meets its input in `flow.project`."""
    assert list(broken_promises(build(rich, 0))) == []


@pytest.mark.parametrize("gate", ["fixed", "lstm"])
def test_what_a_short_pass_has_no_input_for_is_met_in_a_longer_one(planned: Any, gate: str) -> None:
    """The gates behind a segment: no broken promise, and all of them are read through `flow.project`."""
    of = {"name": "b", "mix": {"kind": "convolution"}}
    plan = planned({"name": "s", "kind": "segments", "of": of, "every": 4, "count": 2, "gate": gate})
    model, met = build(plan, 0), Met()
    assert list(broken_promises(model)) == []
    model.losses(*torch.zeros(2, 1, 5, dtype=torch.int64), None, Flow(project=met))
    late = [model.get_parameter(f"{path}.{name}") for path, block in plan.named_blocks() for name in block.late]
    assert len(late) == {"fixed": 1, "lstm": 3}[gate]
    assert {id(weight) for weight in late} <= met.weights


def test_adapters_beside_such_maps_are_taken_at_their_word(planned: Any) -> None:
    """A frozen network with a gate behind its segments can be trained."""
    of = {"name": "b", "mix": {"kind": "convolution"}}
    stages = {"name": "s", "kind": "segments", "of": of, "every": 4, "count": 2, "gate": "lstm"}
    plan = planned(stages, adapters={"kind": "lora", "rank": 2})
    assert any(".adapters.new." in path for path in plan.weights)
    assert list(broken_promises(build(plan, 0))) == []


@pytest.mark.parametrize("name", AROUND)
def test_a_product_written_around_project_is_refused(planned: Any, name: str) -> None:
    """The same function by matmul, einsum or F.linear would be measured in another way, so all three are EVO512."""
    model = spelled(planned, AROUND[name])
    tokens = torch.arange(6)[None]
    projected = spelled(planned, lambda x, weight, flow: flow.project(x, weight))
    torch.testing.assert_close(model(tokens), projected(tokens))
    assert list(broken_promises(projected)) == []
    with pytest.raises(DiagnosticError, match=r"EVO512 stages\.s\.0\.ffn\.down is planned as a linear map"):
        require_promises(model)


def test_a_loss_that_no_plan_names_is_refused(planned: Any) -> None:
    """An auxiliary loss must be listed by the plan, or nobody would report it."""

    def with_loss(x: Tensor, weight: Tensor, flow: Flow) -> Tensor:
        flow.add_loss("balance", x.square().mean(), 0.1)
        return flow.project(x, weight)

    assert list(broken_promises(spelled(planned, with_loss))) == [
        "a block adds the loss 'balance', which no plan lists in `losses`"
    ]
