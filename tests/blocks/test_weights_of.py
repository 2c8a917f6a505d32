"""Stages with the weights of another: what they compute written out, what is trained, counted, kept and refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import document, inputs, moved, organism, plan, stage

from evo.blocks.flow import Flow
from evo.blocks.stages.stage import Stage
from evo.compiler.organism import Organism, OrganismState
from evo.compiler.transplant import transplant
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
LORA = {"kind": "lora", "rank": 2, "alpha": 3.0}


def stages(**use: Any) -> list[dict[str, Any]]:
    """A block, something else, and the block again."""
    first = stage("shared", [ATTENTION, {"kind": "recurrence", "heads": 2}], repeat=2)
    return [first, stage("between", {"kind": "convolution"}), {"name": "again", "weights_of": "shared", **use}]


def model(**use: Any) -> Organism:
    """In float64, with every weight moved."""
    return moved(organism(stages(**use)))


def test_it_is_the_other_stage_with_maps_of_its_own_added() -> None:
    """f(x; W + 3/2 B A) for each map of each layer; and f's weights as they are without adapters."""
    x = inputs(9)
    for use in ({}, {"adapters": LORA}):
        found = model(**use)
        again, shared = found.stages["again"], found.stages["shared"]
        y = again.run({"x": [x]}, Flow()).value()
        with torch.no_grad():
            for path, up in list(again.named_parameters()):
                if path.endswith(".up"):
                    down = again.get_parameter(path.removesuffix("up") + "down")
                    shared.get_parameter(path.removeprefix("beside.").removesuffix(".up")).add_(1.5 * up @ down)
        torch.testing.assert_close(y, shared.run({"x": [x]}, Flow()).value(), rtol=1e-9, atol=1e-11)


def test_both_uses_train_one_set_of_weights() -> None:
    """Its gradient is the sum over both; every adapter learns too, and all that is trained is."""
    found = model(adapters=LORA)
    rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    found.loss(rows, rows).backward()
    assert [path for path, p in found.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    assert found.plan.trained == found.plan.weights
    assert sum(".beside." in path for path in found.plan.weights) == 2 * (4 + 7 + 2 * 3)  # attention, recurrence, ffns


def test_each_use_keeps_a_state() -> None:
    """Step by step the logits are those of the whole; nothing leaks."""
    found = model(adapters=LORA)
    rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split([3, 1, 1, 7], dim=1):
        logits, state = found.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(rows))
    assert find_leak(found) is None


def test_weights_count_once_and_the_rest_for_each_use() -> None:
    """Against the same stages with weights of their own."""
    again, apart = plan(stages()), plan([*stages()[:2], {**stages()[0], "name": "again"}])
    own = apart.stages[2].parameters
    assert again.parameters == apart.parameters - own
    assert (again.flops_per_token, again.cache_per_token) == (apart.flops_per_token, apart.cache_per_token)
    lora = plan(stages(adapters=LORA))
    assert lora.flops_per_token > again.flops_per_token
    assert lora.parameters == again.parameters + lora.stages[2].parameters


def test_a_new_use_starts_with_the_weights_as_they_are() -> None:
    """Adapters that a child has and its parent has not change nothing at first."""
    parent, x = model(), inputs(7)
    weights, report = transplant(plan(stages(adapters=LORA)), 1, dict(parent.named_parameters()))
    child = organism(stages(adapters=LORA)).double()
    child.load_state_dict(weights)
    plain = organism(stages()).double()
    plain.load_state_dict({path: weights[path] for path in plain.state_dict()})
    torch.testing.assert_close(child.forward_embedded(x), plain.forward_embedded(x))
    assert all(".beside." in path for path in report.fresh)


@pytest.mark.parametrize(
    "bad",
    [{"weights_of": "again"}, {"weights_of": "nothing"}, {"adapters": {"kind": "svf"}},
     {"adapters": {**LORA, "four_bits": {}}}, {"from": ["shared", "between"]}],
    ids=["itself", "no stage", "gains of frozen maps", "four bits", "two sources"],
)  # fmt: skip
def test_what_has_no_such_weights_is_refused(bad: dict[str, Any]) -> None:
    """EVO359."""
    with pytest.raises(AssertionError, match="EVO359"):
        document([*stages()[:2], {**stages()[2], **bad}])


def test_a_shared_block_goes_without_the_adapters_of_its_first_use() -> None:
    """Each of two uses is the plain block with maps of its own added, and both train the block."""
    adapted = {"name": "first", "kind": "adapted", "of": stage("shared", ATTENTION), "adapters": LORA}
    found = organism([adapted, stage("between", {"kind": "convolution"}), {"name": "again", "weights_of": "first"}])
    first, x = found.stages["first"], inputs(9)
    ups = {path: up for path, up in first.named_parameters() if path.startswith("beside.") and path.endswith(".up")}
    with torch.no_grad():
        for up in ups.values():
            up.copy_(torch.randn(up.shape, generator=torch.Generator().manual_seed(1), dtype=up.dtype))
    plain = first.child("of_shared")
    assert isinstance(plain, Stage)
    wanted, bent = (found.stages[name].run({"x": [x]}, Flow()).value() for name in ("again", "first"))
    torch.testing.assert_close(plain.run({"x": [x]}, Flow()).value(), wanted, rtol=0, atol=0)
    with torch.no_grad():
        for path, up in ups.items():
            where, down = path.removeprefix("beside.").removesuffix(".up"), path.removesuffix("up") + "down"
            plain.get_parameter(where).add_(1.5 * up @ first.get_parameter(down))
    torch.testing.assert_close(bent, plain.run({"x": [x]}, Flow()).value(), rtol=1e-9, atol=1e-11)
    rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split([3, 1, 8], dim=1):
        logits, state = found.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(rows))
    assert find_leak(found) is None


def test_slots_of_a_pool_meet_the_adapters_of_a_use() -> None:
    """Slots that training would run as one, over stacks of their weights, run apart where adapters know these."""
    pool = stage("shared", {"kind": "pool", "slots": 2, "of": {"kind": "convolution"}}, ffn={"kind": "none"})
    found = organism([pool, {"name": "again", "weights_of": "shared", "adapters": LORA}])
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1)
    rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    found.loss(rows, rows).backward()
    assert [path for path, p in found.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
