"""The organism: its parallel form, its continuing form, and how its parts are wired."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evo.blocks.base import state_size
from evo.blocks.flow import Flow
from evo.compiler.build import build
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan
from evo.kernels.fused.project import project

ATTENTION = {"kind": "attention", "heads": 2}
WINDOW = {**ATTENTION, "stencil": {"kind": "window", "size": 6, "sinks": 2}}


def tokens(time: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, time), generator=torch.Generator().manual_seed(0))


def continued(model: Organism, tokens_BT: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Logits of a sequence read in chunks."""
    state, pieces = model.initial_state(), []
    for chunk in tokens_BT.split(lengths, dim=1):
        logits, state = model.extend(chunk, state)
        pieces.append(logits)
    assert state.seen == tokens_BT.shape[1]
    return torch.cat(pieces, dim=1)


@pytest.mark.parametrize("lengths", [[32], [1] * 32, [7, 1, 1, 20, 3]])
def test_decoding_equals_the_parallel_form(rich: Plan, lengths: list[int]):
    """Reading in any chunks gives the logits of reading at once, through stages, shared weights and positions."""
    model = build(rich, 0).double()
    torch.testing.assert_close(continued(model, tokens(32), lengths), model(tokens(32)), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_windows_and_sinks_decode_far_beyond_the_window(planned, position: str):
    """Over 300 tokens, caches of 2 + 5 positions give what the parallel form gives."""
    plan = planned({"name": "s", "repeat": 2, "mix": WINDOW}, context=300, position={"kind": position})
    model = build(plan, 0).double()
    x = tokens(300, batch=1)
    with torch.inference_mode():
        parts = continued(model, x, [90, *[1] * 150, 60])
        torch.testing.assert_close(parts, model(x), rtol=1e-9, atol=1e-11)
        _, state = model.extend(x, model.initial_state())
    assert state_size(state) == plan.cache_values(300) == 2 * 2 * 16 * 7


def test_planned_cache_of_an_organism(rich: Plan):
    """What the whole state keeps is what the plan says, shared layers counted once each time they run."""
    model, batch = build(rich, 0), 3
    state = model.initial_state()
    for seen in range(1, 20):
        _, state = model.extend(tokens(1, batch), state)
        assert state_size(state) == rich.cache_values(seen) * batch


def test_embeddings_are_a_way_in(rich: Plan):
    """Logits from embeddings equal those from tokens, and no logit has a gradient at a later embedding."""
    model = build(rich, 0).double()
    x_BTD = model.embed(tokens(12)).detach().requires_grad_()
    logits = model.forward_embedded(x_BTD)
    assert torch.equal(logits, model(tokens(12)))
    logits[:, 6].sum().backward()
    assert x_BTD.grad is not None
    assert (x_BTD.grad[:, 7:] == 0).all()
    assert (x_BTD.grad[:, :7].abs().amax(dim=(0, 2)) > 0).all()


def test_gradients_reach_every_parameter(rich: Plan):
    """Every weight of an organism learns from the next-token loss."""
    model = build(rich, 0).double()
    F.cross_entropy(model(tokens(20)).flatten(0, 1), tokens(20).flatten()).backward()
    dead = [path for path, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not dead


def test_stages_read_their_sources(planned):
    """A stage reads the sum of its sources, each scaled by its own row of learned gains."""
    plan = planned(
        {"name": "a", "mix": ATTENTION},
        {"name": "b", "from": "embedding", "mix": ATTENTION},
        {"name": "c", "from": ["embedding", "a", "b"], "mix": ATTENTION},
    )
    model = build(plan, 0).double()
    gains = torch.randn(3, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model.get_parameter("stages.c.merge").data.copy_(gains)
    x = model.embed(tokens(9))

    def layer(stage: str, x: torch.Tensor) -> torch.Tensor:
        return model.stages.get_submodule(f"{stage}.0")(x, Flow())

    a, b = layer("a", x), layer("b", x)
    expected = layer("c", gains[0] * x + gains[1] * a + gains[2] * b)
    assert model.final_norm is not None
    torch.testing.assert_close(model.hidden(x), model.final_norm(expected, Flow()))


def test_shared_layers_are_one_module_with_states_of_their_own(planned):
    """Repeats that share weights are the same module, yet each keeps its own cache."""
    plan = planned({"name": "s", "repeat": 4, "share": True, "mix": [ATTENTION, {"kind": "convolution"}]})
    model = build(plan, 0).double()
    names = [name for name, _ in plan.stages[0].running_layers()]
    assert names == ["0", "1", "0", "1"]
    assert list(model.stages["s"]._modules) == ["0", "1"]
    _, state = model.extend(tokens(5), model.initial_state())
    keys = [state.blocks["stages.s.0.mixer", visit].keys_BSGK for visit in (0, 1)]
    assert not torch.allclose(*keys)


def test_tied_readout_is_the_embedding(planned):
    """Tied logits are the normalised last stage times the embedding, capped if asked."""
    plan = planned({"name": "s", "mix": ATTENTION}, readout={"soft_cap": 0.05})
    model = build(plan, 0).double()
    raw = model.hidden(model.embed(tokens(6))) @ model.get_parameter("embedding.weight").T
    torch.testing.assert_close(model(tokens(6)), 0.05 * torch.tanh(raw / 0.05))
    assert model(tokens(6)).abs().max() < 0.05 < raw.abs().max()


def test_every_map_is_projected_by_the_flow(rich: Plan):
    """Whoever passes a `project` sees each map that a pass applies, the readout's in losses as in logits."""
    model = build(rich, 0)
    paths = {id(parameter): path for path, parameter in model.named_parameters()}
    passes = []
    for run in (lambda flow: model(tokens(6), flow), lambda flow: model.losses(tokens(6), tokens(6), None, flow)):
        seen: list[str] = []

        def noted(x, weight, bias=None, seen=seen):
            seen.append(paths[id(weight)])
            return project(x, weight, bias)

        run(Flow(project=noted))
        passes.append(seen)
    assert passes[0] == passes[1]
    assert passes[0][-1] == "readout.weight"
    assert {path for path, weight in rich.weights.items() if weight.is_linear} <= set(passes[0])


def test_targets_of_weight_0_have_no_loss(rich: Plan):
    """The loss is the mean by weight of the targets' own; a batch in which nothing counts costs nothing."""
    model, x = build(rich, 0), tokens(6)
    weights = torch.rand(2, 6, generator=torch.Generator().manual_seed(1))
    weights[:, :3] = 0
    with torch.no_grad():
        each = F.cross_entropy(model(x).flatten(0, 1), x.flatten(), reduction="none")
        expected = (each * weights.flatten()).sum() / weights.sum()
        torch.testing.assert_close(model.loss(x, x, weights), expected)
        assert float(model.loss(x, x, torch.zeros_like(weights))) == 0


def test_learned_positions_end(rich: Plan):
    """Beyond the context there is no learned position, in one piece or continued."""
    model = build(rich, 0)
    with pytest.raises(ValueError, match="33 tokens exceed the 32 positions"):
        model(tokens(33))
    _, state = model.extend(tokens(32), model.initial_state())
    with pytest.raises(ValueError, match="33 tokens exceed the 32 positions"):
        model.extend(tokens(1), state)


def test_post_norm_needs_no_final_norm(planned):
    """An organism that ends in post-norm layers has no norm before its readout."""
    model = build(planned({"name": "s", "mix": ATTENTION}, norm={"kind": "rms", "place": "post"}), 0)
    assert model.final_norm is None
    assert model(tokens(5)).isfinite().all()


def test_training_after_inference_mode(planned):
    """Angles and slopes that inference mode computed first serve training afterwards."""
    for position in ("rope", "alibi"):
        model = build(planned({"name": "s", "mix": ATTENTION}, position={"kind": position}), 0)
        with torch.inference_mode():
            model(tokens(8))
        model(tokens(8)).sum().backward()


def test_copies_are_independent(rich: Plan):
    """A deep copy computes the same and shares no weight."""
    model = build(rich, 0)
    twin = copy.deepcopy(model)
    assert torch.equal(model(tokens(7)), twin(tokens(7)))
    twin.get_parameter("embedding.weight").data.zero_()
    assert model.get_parameter("embedding.weight").abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision(rich: Plan, dtype: torch.dtype):
    """In bfloat16 weights, and under autocast, logits stay near the float64 ones and decoding works."""
    exact = build(rich, 0).double()(tokens(16))
    model = build(rich, 0).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
        logits = model(tokens(16))
        parts = continued(model, tokens(16), [10, 1, 5])
    scale = exact.abs().max().item()
    torch.testing.assert_close(logits.double(), exact, rtol=0, atol=0.05 * scale)
    torch.testing.assert_close(parts.double(), exact, rtol=0, atol=0.05 * scale)
    logits.float().sum().backward()
