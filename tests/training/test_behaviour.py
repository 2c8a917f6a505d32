"""Behaviour descriptors: bounded and defined for every mixer, and telling apart what they are named after."""

import math
from typing import Any

import pytest
import torch
from tiny_models import CONTEXT, MIXERS, model, perturbed, task, text

from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.training.behaviour import (
    MEASURES,
    Measures,
    NearZero,
    behaviour,
    evenness,
    influence,
    query_positions,
)


def measured(organism: Organism, seed: int = 0) -> Measures:
    """The measures on the test text."""
    return behaviour(organism, task(), CONTEXT, seed).measures


@pytest.mark.parametrize("ffn", [{"kind": "gated"}, {"kind": "none"}])
@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer_has_measures_in_the_unit_interval(mixer: str, ffn: dict[str, Any]) -> None:
    """Each measure of each kind of mixer, with and without a feed-forward, is a number in [0, 1]."""
    seen = behaviour(perturbed(model(MIXERS[mixer], stage={"ffn": ffn})), task(), CONTEXT, 0)
    assert len(seen.measures.vector()) == len(MEASURES) == 5
    assert all(0.0 <= value <= 1.0 for value in seen.measures.vector())
    assert 0.0 < seen.gradient_evenness <= 1.0
    assert seen.measures.attention_span > 0.0


@pytest.mark.parametrize("context", [1, 2, 3])
def test_the_shortest_windows_have_measures(context: int) -> None:
    """A window of one token has no past: span and locality are 0, and nothing fails."""
    measures = behaviour(model(context=context), task(), context, 0).measures
    assert all(0.0 <= value <= 1.0 for value in measures.vector())
    assert (measures.attention_span == 0.0) == (context == 1)


@pytest.mark.parametrize("weight", [0.0, 1e30])
def test_broken_models_have_measures(weight: float) -> None:
    """A model of zeros, or of numbers that overflow, still has measures in [0, 1]."""
    network = model()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(weight)
    seen = behaviour(network, task(), CONTEXT, 0)
    assert all(0.0 <= value <= 1.0 for value in (*seen.measures.vector(), seen.gradient_evenness))


def test_measures_are_the_same_each_time() -> None:
    """Probing twice gives equal numbers, leaves no gradient behind, and leaves torch's generator alone."""
    network = perturbed(model())
    state = torch.get_rng_state()
    assert behaviour(network, task(), CONTEXT, 3) == behaviour(network, task(), CONTEXT, 3)
    assert measured(network, 3) != measured(network, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_window_has_less_span_than_the_whole() -> None:
    """Attention that sees four tokens reaches less far, and more locally, than attention that sees all."""
    window = {"kind": "attention", "heads": 2, "stencil": {"kind": "window", "size": 4}}
    far, near = (measured(model(mix, stage={"repeat": 1})) for mix in (MIXERS["attention"], window))
    assert near.attention_span < 0.5 * far.attention_span
    assert near.memory_locality == pytest.approx(1.0)
    assert far.memory_locality < 0.8


def test_uniform_attention_has_the_span_of_the_mean() -> None:
    """Attention that weighs all tokens alike, its values the only path, reaches (t + 1) / 2t of the window back."""
    network = model({**MIXERS["attention"], "position": {"kind": "none"}}, stage={"repeat": 1, "ffn": {"kind": "none"}})
    with torch.no_grad():
        network.get_parameter("stages.body.0.mixer.q").zero_()
    t_Q = query_positions(CONTEXT).double()
    expected = float(((t_Q + 1) / (2 * t_Q)).mean())
    assert measured(network).attention_span == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("size", [2, 5, 8])
def test_a_short_convolution_is_local(size: int) -> None:
    """All influence of one convolution of at most eight taps comes from the nearest eight tokens."""
    measures = measured(perturbed(model({"kind": "convolution", "size": size}, stage={"repeat": 1})))
    assert measures.memory_locality == pytest.approx(1.0, abs=1e-9)
    assert measures.attention_span < size / (CONTEXT // 2)


def test_a_model_that_reaches_nowhere_has_no_span() -> None:
    """A convolution of one tap sees its own token alone: span and locality are 0."""
    measures = measured(model({"kind": "convolution", "size": 1}))
    assert (measures.attention_span, measures.memory_locality) == (0.0, 0.0)


def test_influence_of_a_hand_set_convolution() -> None:
    """A convolution that copies the token three back is influenced by that token alone."""
    mix = {"kind": "convolution", "size": 4, "gate": False}
    network = model(mix, stage={"repeat": 1, "ffn": {"kind": "none"}})
    with torch.no_grad():
        taps = network.get_parameter("stages.body.0.mixer.taps")
        taps.zero_()
        taps[:, 0] = 1.0
    tokens = torch.from_numpy(text().held_out[:CONTEXT].astype("int64"))[None]
    influence_QT = influence(network, tokens, 0)
    for row, position in zip(influence_QT, query_positions(CONTEXT).tolist(), strict=True):
        assert row.nonzero().flatten().tolist() == [position - 3]


def test_squared_relu_is_sparser_than_gelu() -> None:
    """relu2 zeroes half of what it is given, gelu does not."""
    sparsity = {
        act: measured(model(stage={"ffn": {"kind": "dense", "act": act}})).activation_sparsity
        for act in ("relu2", "relu", "gelu", "silu")
    }
    assert sparsity["relu2"] > sparsity["relu"] > sparsity["gelu"]
    assert sparsity["relu"] > sparsity["silu"]


def test_dead_activations_are_sparse() -> None:
    """Activations that are all zero count as wholly sparse, not as wholly dense."""
    network = model({"kind": "convolution", "size": 2}, stage={"repeat": 1})
    with torch.no_grad():
        network.get_parameter("stages.body.0.mixer.taps").zero_()
        network.get_parameter("stages.body.0.ffn.up").zero_()
    near_zero = NearZero(network)
    with torch.no_grad():
        network(torch.zeros(1, 4, dtype=torch.long), Flow(project=near_zero))
    assert near_zero.total > 0
    assert near_zero.share() == 1.0


def test_larger_gradients_flow_more() -> None:
    """Gradient flow compares gradients with weights: a readout ten times as large lets more through to the layers."""
    network = model()
    before = measured(network).gradient_flow
    with torch.no_grad():
        network.get_parameter("final_norm.gain").mul_(10)
    assert measured(network).gradient_flow > before + 0.05


def test_evenness() -> None:
    """1 where every layer receives the same, 1/n where one receives all, 0 where nothing flows or numbers break."""
    assert evenness([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert evenness([5.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert evenness([1.0, 2.0]) < evenness([1.0, 1.5]) < 1.0
    for broken in ([], [0.0, 0.0], [1.0, math.inf], [1.0, math.nan]):
        assert evenness(broken) == 0.0


def test_wide_layers_are_more_intense() -> None:
    """More width means more arithmetic for each byte that is kept."""
    narrow, wide = (measured(model(width=width)).computational_intensity for width in (16, 64))
    assert narrow < wide < 1.0
