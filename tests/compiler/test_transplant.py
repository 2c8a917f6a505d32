"""Transplanting: a child starts from its parent's weights wherever path and shape allow."""

from __future__ import annotations

import pytest
import torch

from evo.compiler.build import build, initial_weights
from evo.compiler.plan import Plan
from evo.compiler.transplant import _inherit, transplant
from evo.dsl.plan import Init, Weight

ATTENTION = {"kind": "attention", "heads": 2}
CONVOLUTION = {"kind": "convolution"}


def tokens() -> torch.Tensor:
    return torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(0))


def logits(plan: Plan, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return build(plan, 0, weights=weights).double()(tokens())


def test_an_unchanged_plan_inherits_everything(rich: Plan):
    """The same plan gets the parent's weights, copied, not shared."""
    parent = initial_weights(rich, 5)
    weights, report = transplant(rich, 0, parent)
    assert report.copied == tuple(rich.weights)
    assert report.share == 1.0
    assert all(torch.equal(weights[path], parent[path]) for path in parent)
    weights["readout.weight"].zero_()
    assert parent["readout.weight"].abs().max() > 0


def test_an_unrelated_parent_gives_nothing(rich: Plan):
    """Without a common path, all is fresh and equals the initial weights."""
    weights, report = transplant(rich, 0, {"elsewhere": torch.ones(3)})
    assert report.fresh == tuple(rich.weights)
    assert report.share == 0.0
    assert all(torch.equal(weights[path], fresh) for path, fresh in initial_weights(rich, 0).items())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            {"mix": ATTENTION, "ffn": {"kind": "dense", "ratio": 2}},
            {"mix": ATTENTION, "ffn": {"kind": "dense", "ratio": 4}},
        ),
        (
            {"mix": ATTENTION, "ffn": {"kind": "gated", "ratio": 1}},
            {"mix": ATTENTION, "ffn": {"kind": "gated", "ratio": 3}},
        ),
        ({"mix": {**CONVOLUTION, "size": 2}}, {"mix": {**CONVOLUTION, "size": 7}}),
        ({"mix": {**ATTENTION, "head_dim": 8}}, {"mix": {**ATTENTION, "head_dim": 8, "heads": 4}}),
    ],
    ids=["dense", "gated", "taps", "heads"],
)
def test_growth_keeps_the_function(planned, before: dict, after: dict):
    """More hidden units, older taps or further heads leave what the parent computed as it was."""
    small, large = planned({"name": "s", **before}), planned({"name": "s", **after})
    parent = initial_weights(small, 5)
    weights, report = transplant(large, 0, parent)
    assert report.resized
    assert not report.fresh
    torch.testing.assert_close(logits(large, weights), logits(small, parent), rtol=1e-6, atol=1e-7)


def test_what_growth_adds_learns_at_once(planned):
    """Every entry added to a feed-forward's second matrix has a gradient at the first step."""
    small = planned({"name": "s", "mix": ATTENTION, "ffn": {"kind": "dense", "ratio": 2, "act": "gelu"}})
    large = planned({"name": "s", "mix": ATTENTION, "ffn": {"kind": "dense", "ratio": 4, "act": "gelu"}})
    model = build(large, 0, weights=transplant(large, 0, initial_weights(small, 5))[0])
    model(tokens()).square().sum().backward()
    gradient = model.get_parameter("stages.s.0.ffn.down").grad
    assert gradient is not None
    assert (gradient[:, 32:] != 0).all()


def test_a_grown_stack_of_experts_learns_at_once():
    """New hidden units of every expert keep their draws where they read, so both matrices have gradients."""
    small, large = expert_weights(hidden=3), expert_weights(hidden=5)
    parent = {name: torch.randn(weight.shape) for name, weight in small.items()}
    grown = {name: _inherit(name, weight, 0, parent[name])[1] for name, weight in large.items()}
    x_NI = torch.randn(7, 4)

    def mixed(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden_ENF = torch.einsum("ni,efi->enf", x_NI, weights["up"]).tanh()
        return torch.einsum("enf,eof->no", hidden_ENF, weights["down"])

    torch.testing.assert_close(mixed(grown), mixed(parent), rtol=1e-5, atol=1e-6)
    learns = {name: tensor.requires_grad_() for name, tensor in grown.items()}
    mixed(learns).square().sum().backward()
    assert learns["down"].grad is not None
    assert (learns["down"].grad[:, :, 3:] != 0).all()


def expert_weights(hidden: int) -> dict[str, Weight]:
    """Two experts of a feed-forward: stacks of (out, in)."""
    axes = ("stack", "out", "in")
    up = Weight("up", (2, hidden, 4), Init("normal", 0.5), axes, "matrix")
    return {"up": up, "down": Weight("down", (2, 4, hidden), Init("normal", 0.5), axes, "matrix")}


@pytest.mark.parametrize(("shape", "axes"), [((3, 4), ("in", "out")), ((3,), ()), ((2, 3, 4), ("out", "in", "stack"))])
def test_axes_that_do_not_fit_are_refused(shape: tuple[int, ...], axes: tuple):
    """A linear map is (..., out, in), and every dimension has an axis."""
    with pytest.raises(ValueError, match="w: "):
        Weight("w", shape, Init("constant", 0.0), axes)


def test_shrinking_keeps_the_first_entries_and_the_latest_taps(planned):
    """A smaller matrix is the parent's corner; fewer taps are the parent's last."""
    big = planned({"name": "s", "mix": {**CONVOLUTION, "size": 6}, "ffn": {"kind": "dense", "ratio": 4}})
    cut = planned({"name": "s", "mix": {**CONVOLUTION, "size": 2}, "ffn": {"kind": "dense", "ratio": 1}})
    parent = initial_weights(big, 5)
    weights, report = transplant(cut, 0, parent)
    assert torch.equal(weights["stages.s.0.ffn.up"], parent["stages.s.0.ffn.up"][:16])
    assert torch.equal(weights["stages.s.0.ffn.down"], parent["stages.s.0.ffn.down"][:, :16])
    assert torch.equal(weights["stages.s.0.mixer.taps"], parent["stages.s.0.mixer.taps"][:, -2:])
    assert set(report.resized) == {"stages.s.0.ffn.up", "stages.s.0.ffn.down", "stages.s.0.mixer.taps"}
    assert report.share == 1.0


def test_the_report_adds_up(planned, rich: Plan):
    """Each path has one fate, and the inherited values are counted one by one."""
    child = planned(
        {"name": "low", "repeat": 3, "mix": ATTENTION},
        {"name": "new", "mix": CONVOLUTION},
        width=24,
        readout={"tie": False},
    )
    parent = {path: torch.full(weight.shape, 7.0) for path, weight in rich.weights.items()}
    weights, report = transplant(child, 0, parent)
    assert sorted((*report.copied, *report.resized, *report.fresh)) == sorted(child.weights)
    assert {path: tuple(w.shape) for path, w in weights.items()} == {p: w.shape for p, w in child.weights.items()}
    assert report.values == sum(int((w == 7.0).sum()) for w in weights.values())
    assert report.parameters == child.parameters
    assert 0 < report.share < 1


def test_transplanting_is_pure(planned, rich: Plan):
    """Twice the same is the same, and the parent is left as it was, in any dtype."""
    child = planned({"name": "low", "repeat": 2, "mix": ATTENTION}, width=24)
    parent = {path: w.to(torch.bfloat16) for path, w in initial_weights(rich, 5).items()}
    kept = {path: w.clone() for path, w in parent.items()}
    first, second = transplant(child, 0, parent), transplant(child, 0, parent)
    assert first[1] == second[1]
    assert all(torch.equal(first[0][path], second[0][path]) for path in first[0])
    assert all(torch.equal(parent[path], kept[path]) for path in parent)
    assert all(w.dtype == torch.float32 for w in first[0].values())
