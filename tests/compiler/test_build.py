"""Building: a module whose weights are the plan's and whose initial values are a pure function of seed and path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from evo.compiler.build import build, initial_weight, initial_weights, load
from evo.compiler.check import require_valid
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl import document
from evo.dsl.plan import Init, vector

ATTENTION = {"kind": "attention", "heads": 2}
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))


def test_state_dict_is_the_plan(rich: Plan):
    """State-dict keys, order-free, are the paths of the plan's weights, with their shapes."""
    model = build(rich, seed=0)
    assert {path: tuple(t.shape) for path, t in model.state_dict().items()} == {
        path: weight.shape for path, weight in rich.weights.items()
    }
    assert sum(p.numel() for p in model.parameters()) == rich.parameters


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_build_and_run(path: Path):
    """Every example builds and predicts."""
    organism = require_valid(document.load(path)).organism
    model = build(resolve(organism), seed=0)
    with torch.inference_mode():
        logits = model(torch.zeros(1, 8, dtype=torch.int64))
    assert logits.shape == (1, 8, organism.vocab)
    assert logits.isfinite().all()


def test_initial_weights_depend_on_seed_and_path_alone(planned, rich: Plan):
    """The same seed gives the same bits whatever was drawn before and whatever else the plan holds."""
    torch.manual_seed(1)
    first = initial_weights(rich, seed=3)
    torch.randn(7)
    state = torch.get_rng_state()
    assert all(torch.equal(first[path], tensor) for path, tensor in initial_weights(rich, seed=3).items())
    assert torch.equal(state, torch.get_rng_state())
    small = initial_weights(planned({"name": "low", "mix": ATTENTION}), seed=3)
    large = initial_weights(planned({"name": "low", "mix": ATTENTION, "repeat": 3}), seed=3)
    same = [path for path in small if torch.equal(small[path], large[path])]
    assert set(small) - set(same) == {"stages.low.0.mixer.o", "stages.low.0.ffn.down"}, "gains follow the depth"


def test_seeds_and_paths_draw_differently(rich: Plan):
    """No two drawn weights of one shape are alike, and no weight is alike under two seeds."""
    drawn = {p: w for p, w in rich.weights.items() if w.init.law != "constant"}
    one, two = initial_weights(rich, 0), initial_weights(rich, 1)
    assert not any(torch.equal(one[path], two[path]) for path in drawn)
    tensors = [one[path].flatten()[:2].tolist() for path in drawn]
    assert len({tuple(t) for t in tensors}) == len(tensors)


def test_laws():
    """Each law draws what its docstring says."""
    draw = {law: initial_weight("w", vector("w", 20_000, init), 0) for law, init in LAWS.items()}
    assert draw["normal"].mean().abs() < 0.02
    assert draw["normal"].std() == pytest.approx(0.5, rel=0.02)
    assert (draw["constant"] == 0.25).all()
    assert draw["uniform"].aminmax() == pytest.approx((1.0, 3.0), abs=1e-3)
    assert draw["uniform"].mean() == pytest.approx(2.0, rel=0.01)
    logs = F.softplus(draw["timestep"]).log() / torch.log(torch.tensor(10.0))
    assert logs.aminmax() == pytest.approx((-3.0, -1.0), abs=1e-3)
    assert logs.mean() == pytest.approx(-2.0, abs=0.02)


LAWS = {
    "normal": Init("normal", 0.5),
    "constant": Init("constant", 0.25),
    "uniform": Init("uniform", 1.0, 3.0),
    "timestep": Init("timestep", 1e-3, 1e-1),
}


def test_given_weights_are_used(rich: Plan):
    """`build` takes weights by path instead of drawing them."""
    weights = {path: torch.full(weight.shape, 0.5) for path, weight in rich.weights.items()}
    assert all((p == 0.5).all() for p in build(rich, 0, weights=weights).parameters())


def test_weights_that_do_not_fit_are_refused(rich: Plan):
    """A missing path, an unknown path and a wrong shape are named."""
    model, weights = build(rich, 0), initial_weights(rich, 0)
    with pytest.raises(KeyError, match=r"readout\.weight"):
        load(model, {path: w for path, w in weights.items() if path != "readout.weight"})
    with pytest.raises(KeyError, match="stray"):
        load(model, {**weights, "stray": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"readout\.weight is \(3, 3\), planned \(256, 16\)"):
        load(model, {**weights, "readout.weight": torch.zeros(3, 3)})


@pytest.mark.parametrize("name", ["training", "keys", "forward", "T_destination", "low-2", "double"])
def test_stages_may_have_any_name(planned, name: str):
    """Names that torch modules use for themselves are free for stages."""
    plan = planned({"name": name, "mix": ATTENTION}, {"name": "end", "from": ["embedding", name], "mix": ATTENTION})
    model = build(plan, 0)
    model.load_state_dict(model.state_dict())
    assert model.eval().train().training
    assert set(model.state_dict()) == set(plan.weights)
    assert model(torch.zeros(1, 4, dtype=torch.int64)).isfinite().all()
