"""Loops: the turns written out, schedules, truncated gradients, decoding with a state a turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import document, organism, plan, stage
from loops import BODY, CONVOLUTION, model
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.loop.module import Loop
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
RMS = {"kind": "rms"}


def looped(found: Organism) -> Loop:
    loop = found.stages["think"]
    assert isinstance(loop, Loop)
    return loop


def by_hand(loop: Loop, x: Tensor, s: Tensor, times: int) -> Tensor:
    """The turns, one after another, from a first state."""
    for _ in range(times):
        norm = loop._modules.get("norm")
        s = s if norm is None else norm(s, Flow())
        if loop.adapter is not None:
            s = torch.cat((s, x), -1) @ loop.adapter.T
        elif loop.plan.inject == "add":
            s = s + x
        s = loop.of[0].run({"x": [s]}, Flow()).value()
    return s


def inputs() -> Tensor:
    return torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    "loop",
    [
        {},
        {"times": 3, "inject": "none"},
        {"start": "zeros", "norm": RMS},
        {"inject": "concat", "start": "learned", "score_times": 4},
    ],
)
def test_turns_are_those_written_out(loop: dict[str, Any]) -> None:
    """s_0 from `start`, then f(inject(norm(s), x)) so often as said: in scores as often as they say."""
    part, x = looped(model(**loop)), inputs()
    first = {"zeros": x * 0, "input": x}.get(part.plan.start)
    if first is None:
        assert part.start is not None
        first = part.start.expand(x.shape)
    expected = by_hand(part, x, first, loop.get("score_times", loop.get("times", 2)))
    torch.testing.assert_close(part.run({"x": [x]}, Flow()).value(), expected, rtol=1e-12, atol=1e-12)
    trained = part.run({"x": [x]}, Flow(seed=torch.tensor(0))).value()
    assert torch.allclose(trained, expected) == ("score_times" not in loop)


def test_a_plain_loop_is_layers_that_share() -> None:
    """Without injection, from the input, a loop computes what a stage with `share` does."""
    part, x = looped(model(times=3, inject="none")), inputs()
    shared = organism([stage("s", [ATTENTION, CONVOLUTION], repeat=6, share=True, ffn={"kind": "gated", "ratio": 1.0})])
    run = shared.double().stages["s"]
    run.load_state_dict(part.of[0].state_dict())
    torch.testing.assert_close(part.run({"x": [x]}, Flow()).value(), run.run({"x": [x]}, Flow()).value())


@pytest.mark.parametrize("start", ["input", "random"])
def test_decoding_keeps_a_state_a_turn(start: str) -> None:
    """Token by token equals the whole, and nothing leaks."""
    whole = model(times=2, score_times=3, start=start)
    assert find_leak(whole) is None
    rows = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for part in rows.split([5, 1, 6], dim=1):
        logits, state = whole.extend(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows))
    assert len(state.blocks) == 2 + 2 * 3


def test_gradients_flow_through_the_last_turns_alone() -> None:
    """With `backprop: 1` they are those of one turn from a state that is a constant; x is seen in every turn."""
    part, x = looped(model(times=3, backprop=1, start="zeros")), inputs()
    parameters = list(part.of[0].parameters())
    ours = torch.autograd.grad(part.run({"x": [x]}, Flow()).value().square().sum(), parameters)
    with torch.no_grad():
        before = by_hand(part, x, x * 0, 2)
    theirs = torch.autograd.grad(by_hand(part, x, before, 1).square().sum(), parameters)
    torch.testing.assert_close(ours, theirs)
    whole = torch.autograd.grad(by_hand(part, x, x * 0, 3).square().sum(), parameters)
    assert not torch.allclose(ours[0], whole[0])


def test_times_are_drawn_about_their_mean() -> None:
    """A step draws its times by its seed: at least one, on average as said, and scores always run the same."""
    part = looped(model(times=6, draw="poisson", spread=0.5))
    drawn = [part._times(Flow(seed=torch.tensor(seed))) for seed in range(2000)]  # pyright: ignore[reportPrivateUsage]
    assert min(drawn) >= 1
    assert sum(drawn) / len(drawn) == pytest.approx(6.0, abs=0.35)
    assert max(drawn) > 12
    assert part._times(Flow()) == 6  # pyright: ignore[reportPrivateUsage]


def test_a_loop_costs_its_turns() -> None:
    """FLOPs of training for each turn, caches for each turn of decoding, and parameters once."""
    bodies = [stage("prelude", CONVOLUTION), {**BODY, "name": "think"}, stage("coda", CONVOLUTION)]
    loop = {"name": "think", "kind": "loop", "of": BODY, "times": 3, "score_times": 5}
    once, often = plan(bodies), plan([bodies[0], loop, bodies[2]])
    assert often.parameters == once.parameters
    assert often.flops_per_token - once.flops_per_token == pytest.approx(2 * once.stages[1].flops)
    assert often.cache_per_token == 5 * once.stages[1].children[0][1].child("mixer").cost.cache_per_token  # type: ignore[attr-defined]


def test_what_cannot_loop_is_refused() -> None:
    """A stage inside that reads others, nothing injected, and nothing to draw."""
    for bad in (
        {"of": {**BODY, "from": "prelude"}},
        {"inject": "none", "start": "zeros"},
        {"draw": "poisson", "times": 1},
    ):
        middle = {"name": "think", "kind": "loop", "of": BODY, **bad}
        with pytest.raises(AssertionError, match="EVO352"):
            document([stage("prelude", CONVOLUTION), middle, stage("coda", CONVOLUTION)])


@pytest.mark.parametrize(
    "middle",
    [
        {"kind": "loop", "of": BODY, "inject": "concat"},
        {"kind": "patches", "of": BODY, "size": 4},
        {"kind": "memory_tokens", "of": BODY, "every": 4},
        {"kind": "latent", "heads": 2, "bits": 2},
        {"kind": "depths", "of": BODY},
        {"kind": "ngrams", "sizes": [2], "rows": 8},
    ],
    ids=lambda middle: middle["kind"],
)
def test_the_stream_keeps_its_dtype(middle: dict[str, Any]) -> None:
    """Under autocast, what a stage hands on is as exact as what it reads."""
    name = {"name": "think", **middle}
    part = organism([name, stage("end", CONVOLUTION, **{"from": ["embedding", "think"]})]).float().stages["think"]
    x, rows = inputs().float(), torch.zeros(2, 10, dtype=torch.int64)
    for seed in (None, torch.tensor(0)):
        with torch.autocast("cpu", torch.bfloat16):
            flow = Flow(signals={"tokens": rows}, seed=seed)
            assert part.run({"x": [x]}, flow).value().dtype == torch.float32
