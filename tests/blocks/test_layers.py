"""Layers written out: each wiring computes its formula, and the short form is one of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import CONTEXT, WIDTH, document, inputs, organism, plan, stage

from evo.blocks.flow import Flow
from evo.compiler.check import check
from evo.compiler.organism import Organism
from evo.dsl.canonical import content_hash, to_yaml
from evo.dsl.document import from_data, parse

ATTENTION = {"kind": "attention", "heads": 2}
CONVOLUTION = {"kind": "convolution"}
GATED = {"kind": "gated", "ratio": 1.0}
RMS, LAYER = {"kind": "rms"}, {"kind": "layer"}
LONE = {"sublayers": [{"block": GATED}]}


def written(*sublayers: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A stage of one layer that is written out."""
    return {"name": "s", "layers": {"sublayers": list(sublayers)}, **settings}


def moved(model: Organism) -> Organism:
    """The model with every weight moved, so that no gain is 1 and no bias 0."""
    for i, parameter in enumerate(model.requires_grad_(False).parameters()):
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
    return model


def layer_of(*sublayers: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """One built layer, and its blocks and norms as functions by name."""
    layer = moved(organism([written(*sublayers)])).stages["s"].child("0")
    flow = Flow()
    parts = {name: (lambda x, part=part: part(x, flow)) for name, part in layer.named_children()}
    return layer, parts


def output(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return layer(x, Flow())


@pytest.mark.parametrize("place", ["pre", "post", "sandwich"])
def test_the_short_form_is_a_layer_written_out(place: str) -> None:
    """A stage of `mix`, `ffn` and `norm` computes what its sublayers with norms in their slots compute."""
    slots = {"pre": {"in": RMS}, "post": {"after": RMS}, "sandwich": {"in": RMS, "out": RMS}}[place]
    short = moved(organism([stage("s", ATTENTION, ffn=GATED, norm={**RMS, "place": place})]))
    sublayers = [{"block": ATTENTION, "norm": slots}, {"block": GATED, "norm": slots}]
    long = organism([written(*sublayers)])
    assert [p.shape for p in long.parameters()] == [p.shape for p in short.parameters()]
    for theirs, ours in zip(short.parameters(), long.parameters(), strict=True):
        ours.data.copy_(theirs)
    tokens = torch.arange(12)[None]
    assert torch.equal(short(tokens), long(tokens))


def test_norms_stand_in_their_slots() -> None:
    """x <- after(x + out(f(in(x)))), with three kinds of norm at once."""
    layer, f = layer_of({"block": ATTENTION, "norm": {"in": RMS, "out": LAYER, "after": RMS}})
    x = inputs()
    expected = f["0_after_norm"](x + f["0_out_norm"](f["0"](f["0_in_norm"](x))))
    torch.testing.assert_close(output(layer, x), expected, rtol=1e-12, atol=1e-12)


def test_a_layer_without_norms() -> None:
    """A slot that is left out has no norm: x + f(x)."""
    layer, f = layer_of({"block": CONVOLUTION})
    assert set(f) == {"0"}
    torch.testing.assert_close(output(layer, inputs()), inputs() + f["0"](inputs()), rtol=1e-12, atol=1e-12)


def test_blocks_side_by_side() -> None:
    """One residual for two blocks: with a norm of their own each, and with one that they share."""
    own, f = layer_of(
        {"parallel": [{"block": ATTENTION, "norm": {"in": LAYER}}, {"block": GATED, "norm": {"in": RMS}}]}
    )
    x = inputs()
    expected = x + f["0"](f["0_in_norm"](x)) + f["1"](f["1_in_norm"](x))
    torch.testing.assert_close(output(own, x), expected, rtol=1e-12, atol=1e-12)
    shared, g = layer_of({"parallel": [{"block": ATTENTION}, {"block": GATED}], "norm": {"in": LAYER}})
    h = g["0_norm"](x)
    torch.testing.assert_close(output(shared, x), x + g["0"](h) + g["1"](h), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("between", [ATTENTION, {"kind": "none"}])
def test_a_late_branch_is_added_further_on(between: dict[str, Any]) -> None:
    """What a branch makes of x joins the sum of a later sublayer, also where that builds nothing."""
    first = {"parallel": [{"block": GATED}, {"block": CONVOLUTION, "late": 1, "gain": 2.0}], "norm": {"in": LAYER}}
    layer, f = layer_of(first, {"block": between, "norm": {"in": RMS}}, {"block": GATED})
    x = inputs()
    h = f["0_norm"](x)
    middle = x + f["0"](h)
    second = 0.0 if between["kind"] == "none" else f["2"](f["2_in_norm"](middle))
    last = middle + second + 2.0 * f["1"](h)
    torch.testing.assert_close(output(layer, x), last + f["3"](last), rtol=1e-12, atol=1e-12)


def test_gains_and_skips() -> None:
    """x <- skip x + gain f(x): numbers, powers of the depth, and learned gains that get gradients."""
    layer, f = layer_of(
        {"block": CONVOLUTION, "skip": 1.5, "gain": {"kind": "depth", "power": -0.25, "scale": 2.0}},
        {"block": GATED, "skip": {"kind": "learned"}, "gain": {"kind": "learned", "per": "channel", "init": 0.5}},
    )
    x = inputs()
    middle = 1.5 * x + 2.0 * f["0"](x)  # one layer: depth 1
    skip, gain = layer.get_parameter("1_skip"), layer.get_parameter("1_gain")
    assert (skip.shape, gain.shape) == ((1,), (WIDTH,))
    torch.testing.assert_close(output(layer, x), skip * middle + gain * f["1"](middle), rtol=1e-12, atol=1e-12)
    layer.requires_grad_()
    output(layer, x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 1e-12 for p in layer.parameters())


def test_gains_that_shift() -> None:
    """x <- skip (x + a) + gain (f(x) + b), and gradients of both biases (ZAYA1's residual scaling)."""
    learned = {"kind": "learned", "per": "channel", "shift": True}
    layer, f = layer_of({"block": GATED, "skip": learned, "gain": {**learned, "per": "scalar"}})
    x = inputs()
    w = {name: layer.get_parameter(f"0_{name}") for name in ("skip", "skip_shift", "gain", "gain_shift")}
    assert [len(w[name]) for name in w] == [WIDTH, WIDTH, 1, 1]
    made = w["skip"] * (x + w["skip_shift"]) + w["gain"] * (f["0"](x) + w["gain_shift"])
    torch.testing.assert_close(output(layer, x), made, rtol=1e-12, atol=1e-12)


def test_whole_layers_cycle_together() -> None:
    """A list of named layers cycles over the repeats; `share` makes one set of weights an entry."""
    layers = {"local": {"sublayers": [{"block": CONVOLUTION}]}, "far": {"sublayers": [{"block": ATTENTION}]}}
    cycle = {"name": "s", "repeat": 6, "layers": ["local", "local", "far"]}
    running = [layer.child("0").kind for _, layer in plan([cycle], layers=layers).stages[0].running_layers()]
    assert running == ["convolution", "convolution", "attention"] * 2
    shared = plan([{**cycle, "share": True}], layers=layers).stages[0]
    assert [name for name, _ in shared.running_layers()] == ["0", "1", "2", "0", "1", "2"]
    assert shared.parameters * 2 == plan([cycle], layers=layers).stages[0].parameters


def test_a_norm_at_the_end_is_the_final_norm() -> None:
    """`norm_end` of the last stage takes the place of the organism's final norm, as an `after` slot does."""
    bare = written({"block": ATTENTION})
    assert organism([bare]).final_norm is not None
    ended = organism([{**bare, "norm_end": LAYER}])
    assert ended.final_norm is None
    assert "stages.s.end_norm.bias" in ended.state_dict()
    assert organism([written({"block": ATTENTION, "norm": {"after": RMS}})]).final_norm is None


def test_a_block_that_is_nothing_leaves_its_sublayer_out() -> None:
    """`{kind: none}` builds no block, no norm and no weight."""
    model = plan([written({"block": ATTENTION}, {"block": {"kind": "none"}, "norm": {"in": RMS}})])
    assert next(layer for _, layer in model.stages[0].running_layers()).block_names() == ("0",)


@pytest.mark.parametrize("lengths", [[24], [1] * 24, [5, 1, 18]])
def test_decoding_equals_the_parallel_form(lengths: list[int]) -> None:
    """States follow the blocks wherever they stand: side by side, shared, several in one layer."""
    layers = {"deep": {"sublayers": [{"parallel": [{"block": ATTENTION}, {"block": CONVOLUTION}]}, {"block": GATED}]}}
    model = organism([{"name": "s", "repeat": 3, "share": True, "layers": "deep"}], layers=layers)
    tokens = torch.randint(0, 256, (2, CONTEXT), generator=torch.Generator().manual_seed(0))
    state, pieces = model.initial_state(), []
    for chunk in tokens.split(lengths, dim=1):
        logits, state = model.extend(chunk, state)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=1e-9, atol=1e-11)


def test_layers_are_written_back() -> None:
    """The canonical text reads back to the same document, without layers that no stage names."""
    layers = {"used": {"sublayers": [{"block": ATTENTION, "gain": 0.5}]}, "dead": {"sublayers": [{"block": GATED}]}}
    made = document([{"name": "s", "layers": "used"}], layers=layers)
    text = to_yaml(made)
    assert "dead" not in text
    assert content_hash(parse(text).document) == content_hash(made)


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "neither a block nor several": (written({"norm": {"in": RMS}}), {}, "EVO306"),
    "a block and several": (
        written({"block": ATTENTION, "parallel": [{"block": ATTENTION}, {"block": GATED}]}),
        {},
        "EVO306",
    ),
    "one block side by side": (written({"parallel": [{"block": ATTENTION}]}), {}, "EVO306"),
    "a gain for several": (
        written({"parallel": [{"block": ATTENTION}, {"block": GATED}], "gain": 0.5}),
        {},
        "EVO306",
    ),
    "a branch later than the end": (
        written({"parallel": [{"block": ATTENTION}, {"block": GATED, "late": 2}]}, {"block": GATED}),
        {},
        "EVO306",
    ),
    "a rest of a gain that shifts": (
        written({"block": ATTENTION, "gain": {"kind": "learned", "shift": True}, "skip": {"kind": "rest"}}),
        {},
        "EVO306",
    ),
    "an unknown layer": ({"name": "s", "layers": "deep"}, {}, "EVO320"),
    "an unknown pseudopod in a layer": (written({"block": "near"}), {}, "EVO320"),
    "a fault in a block of a layer": (written({"block": {"kind": "attention", "heads": 3}}), {}, "EVO300"),
    "one name for two parts": (
        {"name": "s", "layers": "x"},
        {"pseudopods": {"x": ATTENTION}, "layers": {"x": {"sublayers": [{"block": "x"}]}}},
        "EVO323",
    ),
    "a list that is too long": (
        {"name": "s", "layers": ["a", "a"]},
        {"layers": {"a": written({"block": GATED})["layers"]}},
        "EVO332",
    ),
    "a place in a slot": (
        written({"block": ATTENTION, "norm": {"in": {"kind": "rms", "place": "post"}}}),
        {},
        "EVO330",
    ),
    "a norm beside those of all branches": (
        written({"parallel": [{"block": ATTENTION, "norm": {"in": RMS}}] * 2, "norm": {"in": RMS}}),
        {},
        "EVO330",
    ),
    "a layer that nothing uses": (
        written({"block": ATTENTION}),
        {"layers": {"a": LONE}},
        "EVO321",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(name: str) -> None:
    """What cannot be, or does nothing, is said with its code."""
    made, extra, code = FAULTS[name]
    loaded = from_data({"evo": 1, "organism": {"width": WIDTH, "context": CONTEXT, "stages": [made], **extra}})
    assert code in {diagnostic.code for diagnostic in check(loaded)}


@pytest.mark.parametrize(
    "branches",
    [
        [{"block": GATED, "norm": {"in": RMS}}, {"block": ATTENTION, "norm": {"in": RMS}}],
        [{"block": {"kind": "none"}}] * 2,
    ],
    ids=["norms of their own", "no blocks"],
)
def test_a_norm_that_no_branch_reads_through_is_not_built(branches: list[dict[str, Any]]) -> None:
    """Every weight that is there learns."""
    made = [written({"parallel": branches, "norm": {"in": RMS}}), stage("end", ATTENTION)]
    found = organism(made)
    tokens = torch.randint(256, (2, 8), generator=torch.Generator().manual_seed(0))
    found.loss(tokens, tokens).backward()
    assert [path for path, p in found.named_parameters() if p.grad is None] == []
