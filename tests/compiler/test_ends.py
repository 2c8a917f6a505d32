"""Embedding and readout with all that they may have: against the equations, in logits and in losses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.flow import Flow
from evo.compiler.build import build
from evo.compiler.organism import Organism
from evo.report.explain import rows

ATTENTION = {"kind": "attention", "heads": 2}
LAYER = {"kind": "layer"}


def large(model: Organism) -> Organism:
    """Every weight moved, gains and biases too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.5)
    return model


def tokens(time: int = 9) -> Tensor:
    return torch.randint(0, 256, (2, time), generator=torch.Generator().manual_seed(0))


def normed(x: Tensor, weights: dict[str, Tensor], at: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{at}.gain"], weights[f"{at}.bias"], 1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_the_whole_embedding(planned, first: bool):
    """norm(project(scale * table[token]) + positions), or the norm before positions."""
    embedding = {"width": 12, "bias": True, "gain": True, "scale": 3.0, "norm": LAYER, "norm_first": first}
    model = large(build(planned({"name": "s", "mix": ATTENTION}, embedding=embedding, position={"kind": "learned"}), 0))
    w, x = dict(model.named_parameters()), tokens()
    made = F.linear(3.0 * w["embedding.weight"][x], w["embedding.project"], w["embedding.bias"]) * w["embedding.gain"]
    rows = w["embedding.position"][: x.shape[1]]
    after = normed(made, w, "embedding.norm") + rows if first else normed(made + rows, w, "embedding.norm")
    torch.testing.assert_close(model.embed(x), after)


def test_an_embedding_that_is_projected_last(planned):
    """project(norm(scale * table[token] + positions)) + bias, with positions as narrow as the vectors of tokens."""
    embedding = {"width": 12, "bias": True, "scale": 3.0, "norm": LAYER, "project_last": True}
    model = large(build(planned({"name": "s", "mix": ATTENTION}, embedding=embedding, position={"kind": "learned"}), 0))
    w, x = dict(model.named_parameters()), tokens()
    made = normed(3.0 * w["embedding.weight"][x] + w["embedding.position"][: x.shape[1]], w, "embedding.norm")
    torch.testing.assert_close(model.embed(x), F.linear(made, w["embedding.project"], w["embedding.bias"]))


@pytest.mark.parametrize("tie", [True, False])
def test_the_whole_readout(planned, tie: bool):
    """cap tanh(scale (W norm(act(T h + t)) + b) / cap), in losses as in logits."""
    readout = {
        "tie": tie,
        "bias": True,
        "scale": 0.5,
        "soft_cap": 4.0,
        "transform": {"act": "gelu_tanh", "norm": LAYER, **({} if tie else {"width": 20})},
    }
    model = large(build(planned({"name": "s", "mix": ATTENTION}, readout=readout), 0).double())
    w, x = dict(model.named_parameters()), tokens()
    h = model.hidden(model.embed(x))
    inner = F.gelu(F.linear(h, w["readout.transform"], w["readout.transform_bias"]), approximate="tanh")
    table = w["embedding.weight"] if tie else w["readout.weight"]
    raw = F.linear(normed(inner, w, "readout.norm"), table, w["readout.bias"]) * 0.5
    torch.testing.assert_close(model(x), 4.0 * torch.tanh(raw / 4.0))
    expected = F.cross_entropy(model(x).flatten(0, 1), x.flatten())
    torch.testing.assert_close(model.loss(x, x).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("gain", [True, False])
def test_symbols_are_unit_vectors(planned, tie: bool, gain: bool):
    """gain * (scale W / |W| h) + b by symbol (nGPT, 2410.01131, 2.5 and 2.6; without gains NormHead of Baichuan 2,
    2309.10305), in logits, and the gradients of losses."""
    readout = {"tie": tie, "unit": True, "gain": gain, "scale": 0.5, "bias": True}
    model = large(build(planned({"name": "s", "mix": ATTENTION}, readout=readout), 0).double())
    w, x = dict(model.named_parameters()), tokens()
    assert ("readout.gain" in w) == gain
    table = w["embedding.weight"] if tie else w["readout.weight"]
    h = model.hidden(model.embed(x))
    logits = (
        h @ (table / table.norm(dim=-1, keepdim=True)).T * 0.5 * w.get("readout.gain", 1.0) + w["readout.bias"] * 0.5
    )
    torch.testing.assert_close(model(x), logits)
    expected = F.cross_entropy(logits.flatten(0, 1), x.flatten())
    got = torch.autograd.grad(model.loss(x, x), list(w.values()))
    for name, a, b in zip(w, got, torch.autograd.grad(expected, list(w.values())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("tie", [True, False])
def test_a_mixture_of_softmaxes(planned, tie: bool):
    """log sum_k share_k softmax(cap tanh((W relu(M_k h + m_k) + b) scale / cap)) (1711.03953, eq. 3 and section 3), in
    probabilities, and the loss and its gradients by them."""
    mixture = {"count": 3, "act": "relu"}
    readout = {"tie": tie, "bias": True, "scale": 0.5, "soft_cap": 4.0, "mixture": mixture}
    plan = planned({"name": "s", "mix": ATTENTION}, readout=readout, embedding={"width": 12} if tie else {})
    model = large(build(plan, 0).double())
    w, x = dict(model.named_parameters()), tokens()
    h = model.hidden(model.embed(x))
    h = h @ w["readout.transform"].T if tie else h
    table = w["embedding.weight"] if tie else w["readout.weight"]
    shares = torch.softmax(h @ w["readout.share"].T, dim=-1)
    probability = torch.zeros(*x.shape, 256, dtype=h.dtype)
    rows = zip(w["readout.mixture"].split(len(h[0, 0])), w["readout.mixture_bias"].split(len(h[0, 0])), strict=True)
    for k, (matrix, bias) in enumerate(rows):
        raw = F.linear(F.relu(F.linear(h, matrix, bias)), table, w["readout.bias"]) * 0.5
        probability = probability + shares[..., k, None] * torch.softmax(4.0 * torch.tanh(raw / 4.0), dim=-1)
    torch.testing.assert_close(model(x), probability.log())
    expected = -probability.log().gather(-1, x[..., None]).mean()
    loss = model.loss(x, x)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    got = torch.autograd.grad(loss, list(w.values()))
    wanted = torch.autograd.grad(expected, list(w.values()))
    for name, a, b in zip(w, got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")
    assert plan.read_flops == 2 * (3 * table.shape[1] * (table.shape[1] + 1 + 256) + tie * 16 * 12)


def exiting(planned, **exits) -> Organism:
    """Three stages; float64, every weight moved."""
    stages = [{"name": name, "mix": ATTENTION} for name in ("low", "middle", "top")]
    whole = planned(*stages, readout={"bias": True, "scale": 0.5, "exits": {"after": ["low", "middle"], **exits}})
    return large(build(whole, 0).double())


def test_exits(planned):
    """Training adds the cross-entropy of what the norm and the readout make of inner stages; logits are as ever."""
    model = exiting(planned, weight=0.3)
    w, x = dict(model.named_parameters()), tokens()
    expected, h, flow = torch.zeros(()), model.embed(x), Flow()
    for name, weight in (("low", 0.3), ("middle", 0.3), ("top", 1.0)):
        h = model.stages[name].run({"x": [h]}, flow).value()
        normed = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w["final_norm.gain"]
        logits = 0.5 * F.linear(normed, w["embedding.weight"], w["readout.bias"])
        expected = expected + weight * F.cross_entropy(logits.flatten(0, 1), x.flatten())
    torch.testing.assert_close(model(x), logits)
    losses = model.losses(x, x)
    assert set(losses.auxiliary) == set(model.plan.losses) == {"exit_low", "exit_middle"}
    torch.testing.assert_close(losses.total.double(), expected, rtol=1e-5, atol=1e-6)
    got, wanted = (torch.autograd.grad(total, list(w.values())) for total in (losses.total, expected))
    for name, a, b in zip(w, got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")


def test_what_exits_cost(planned):
    """A readout each, which explain shows and training counts; and the stages that are read must be inner ones."""
    model = exiting(planned)
    without = planned(*({"name": name, "mix": ATTENTION} for name in ("low", "middle", "top")), readout={"bias": True})
    assert model.plan.flops_per_token == without.flops_per_token + 2 * model.plan.read_flops
    table = [row for row in rows(model.plan) if not row.part]
    assert sum(row.flops_per_token * row.count for row in table) == pytest.approx(model.plan.flops_per_token)
    for name in ("top", "nowhere", "low"):
        with pytest.raises(Exception, match="EVO310"):
            exiting(planned, after=["low", name])


def test_a_narrow_tied_embedding_is_read_through_a_map(planned):
    """Without a transform, a linear map goes to the embedding's width (OPT)."""
    model = build(planned({"name": "s", "mix": ATTENTION}, embedding={"width": 8}), 0)
    assert model.get_parameter("readout.transform").shape == (8, 16)
    assert model(tokens()).shape == (2, 9, 256)


@pytest.mark.parametrize("layout", ["halves", "alternating"])
@pytest.mark.parametrize("steps", ["width", "ends"])
def test_sinusoids(planned, layout: str, steps: str):
    """sin and cos of position times theta^(-i / R), or the last frequency 1 / theta, continued as at once."""
    position = {"kind": "sinusoid", "layout": layout, "steps": steps, "offset": 2}
    model = build(planned({"name": "s", "mix": ATTENTION}, position=position), 0).double()
    x = tokens()
    table = model.embed(x).detach() - model.get_parameter("embedding.weight")[x].detach()
    last = 8 if steps == "width" else 7
    for t, i in ((0, 0), (3, 5), (8, 7)):
        angle = (t + 2) * 10000 ** (-i / last)
        places = (i, i + 8) if layout == "halves" else (2 * i, 2 * i + 1)
        found = [float(table[0, t, place]) for place in places]
        assert found == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-9)
    torch.testing.assert_close(model.embed(x[:, 5:], Flow(position=5)), model.embed(x)[:, 5:])
