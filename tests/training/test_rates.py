"""Rates by width: what a step changes about the activations does not depend on the width."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from evo.compiler.build import build
from evo.compiler.check import require_valid
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, from_data
from evo.dsl.plan import linear
from evo.dsl.rates import MaximalUpdateRates, SpectralRates
from evo.optimizers.adamw.rule import AdamW
from evo.optimizers.muon.rule import Muon, orthogonal
from evo.training.optimizer import Optimizer

WIDTHS = (32, 64, 128, 256)
STAGES = [
    {"name": "s", "repeat": 2, "mix": {"kind": "attention", "head_dim": 16}, "ffn": {"kind": "dense", "ratio": 2}}
]


def document(width: int, optimizer: dict[str, Any], rates: str | None, tie: bool) -> Document:
    """A small Transformer of a width, with heads of 16 channels."""
    stages = [{**STAGES[0], "mix": {**STAGES[0]["mix"], "heads": width // 16}}]
    readout = {"tie": True} if tie else {"tie": False, "init": 1e-6}  # muP advises to begin with zero logits
    organism = {"width": width, "context": 16, "readout": readout, "stages": stages}
    train = {"optimizer": optimizer, "rates": rates and {"kind": rates, "base": WIDTHS[0]}}
    return require_valid(from_data({"evo": 1, "organism": organism, "train": train}))


def moves(width: int, optimizer: dict[str, Any], rates: str | None, tie: bool) -> dict[str, float]:
    """How much three steps change the stream and the logits, root mean square."""
    made = document(width, optimizer, rates, tie)
    model, train = build(resolve(made.organism), 0), made.train
    own = Optimizer(dict(model.named_parameters()), model.plan.weights, train.optimizer, None, train.rates, width)
    tokens = torch.randint(0, 256, (4, 17), generator=torch.Generator().manual_seed(1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    def seen() -> dict[str, Tensor]:
        with torch.no_grad():
            h = model.hidden(model.embed(inputs))
            return {"stream": h, "logits": model.read(h)}

    before = seen()
    for _ in range(3):
        model.zero_grad()
        model.loss(inputs, targets).backward()
        own.step(1.0)
    return {name: float((value - before[name]).square().mean().sqrt()) for name, value in seen().items()}


def slopes(optimizer: dict[str, Any], rates: str | None, tie: bool = False) -> dict[str, float]:
    """The exponents of the width with which these changes grow, by least squares."""
    rows = [moves(width, optimizer, rates, tie) for width in WIDTHS]
    logs = torch.tensor([math.log(width) for width in WIDTHS])
    centred = logs - logs.mean()
    found = {name: torch.tensor([math.log(row[name]) for row in rows]) for name in rows[0]}
    return {name: float((centred * values).sum() / centred.square().sum()) for name, values in found.items()}


ADAMW = {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.0}


@pytest.mark.parametrize("rates", [None, "mup", "spectral"])
def test_the_coordinate_check(rates: str | None) -> None:
    """Over widths from 32 to 256, three steps of AdamW change stream and logits alike with rates by width, and ever
    more without (the coordinate check of Yang et al. 2022)."""
    found = slopes(ADAMW, rates)
    if rates is None:
        assert found["logits"] > 0.5
        assert found["stream"] > 0.2
    else:
        assert all(abs(slope) < 0.2 for slope in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [ADAMW, {"kind": "lion", "lr": 3e-4}, {"kind": "muon", "lr": 5e-3}])
@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("rates", ["mup", "spectral"])
def test_the_coordinate_check_everywhere(optimizer: dict[str, Any], tie: bool, rates: str) -> None:
    """The same with every optimizer. Where the table of tokens is the readout too, no rate suits both: it goes by the
    readout, its part in the stream shrinks, and the logits grow by half the exponent that they have without at most."""
    found, bare = slopes(optimizer, rates, tie), slopes(optimizer, None, tie)
    if tie:
        assert found["logits"] < 0.5 * bare["logits"]
    else:
        assert all(abs(slope) < 0.2 for slope in found.values()), found


def test_adamws_first_step_changes_an_output_by_the_inputs_size() -> None:
    """Its first update is lr sign(g), and g is one outer product: an output changes by lr base mean|x|, whatever the
    width (the formula, worked out by hand)."""
    for width in (8, 64, 512):
        x, weight = torch.linspace(-1, 1, width), linear("w", 4, width)
        factor = SpectralRates(base=32).factor(weight, 999, AdamW(1e-3, 0.9, 0.95, 1e-12).spectral_step)
        assert factor == MaximalUpdateRates(base=32).factor(weight, width, AdamW(1, 0.9, 0.95, 1e-12).spectral_step)
        rule = AdamW(1e-3, 0.9, 0.95, 1e-12).scaled(factor)
        w, gradient = torch.zeros(4, width), torch.ones(4, 1) * x
        rule.step([w], [gradient], [rule.init(w)], rule.lr)
        assert w @ x == pytest.approx(torch.full((4,), -1e-3 * 32 * float(x.abs().mean())), rel=1e-4)


def test_muons_step_has_the_spectral_norm() -> None:
    """Its update, scaled by the factor, has a spectral norm near sqrt(fan-out / fan-in): Newton-Schulz gets singular
    values between 0.7 and 1.2."""
    rule = Muon(1.0, 0.9, nesterov=True, iterations=5)
    for rows, columns in ((32, 128), (128, 32), (64, 64)):
        gradient = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
        norm = float(torch.linalg.matrix_norm(orthogonal(gradient[None], 5)[0].float(), 2)) * rule.spectral_step(
            rows, columns
        )
        factor = SpectralRates(base=16).factor(linear("w", rows, columns), 16, rule.spectral_step)
        assert 0.7 < norm * factor / math.sqrt(rows / columns) < 1.25
        assert MaximalUpdateRates(base=16).factor(linear("w", rows, columns), 64, rule.spectral_step) == 1.0


def test_what_keeps_its_rate() -> None:
    """Tables, gains and biases do; a table that is the readout too does not; decay by step is as it was."""
    for tie in (False, True):
        made = document(64, {"kind": "adamw", "lr": 0.01, "weight_decay": 0.2}, "mup", tie)
        plan = resolve(made.organism)
        model = build(plan, 0)
        own = Optimizer(dict(model.named_parameters()), plan.weights, made.train.optimizer, None, made.train.rates, 64)
        paths = {id(p): path for path, p in model.named_parameters()}
        rules = {paths[id(p)]: group.rule for group in own.groups for p in group.parameters}
        assert rules["embedding.weight"].lr == (0.005 if tie else 0.01)
        assert rules["final_norm.gain"].lr == 0.01
        for path in ("stages.s.0.mixer.q", *(() if tie else ("readout.weight",))):
            rule = rules[path]
            assert isinstance(rule, AdamW)
            assert (rule.lr, rule.lr * rule.weight_decay) == (0.005, pytest.approx(0.01 * 0.2))
