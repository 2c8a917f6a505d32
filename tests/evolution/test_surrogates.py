"""Surrogates: what they compute, and that a search which asks one is the same every time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from parents import document, stage
from scipy.stats import multivariate_normal, norm
from searches import seed_document, settings
from test_rungs import made_up

from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_yaml
from evo.dsl.index import kind_class, kinds
from evo.dsl.surrogate import SurrogateSpec
from evo.evolution.journal import Journal
from evo.evolution.search import Search
from evo.evolution.surrogates.base import GUESSES, make_surrogate
from evo.evolution.surrogates.features import chosen
from evo.evolution.surrogates.linear_ucb.surrogate import (
    CONSTANT,
    SCALES,
    Scale,
    likeliest,
    normal_scores,
    posterior,
)
from evo.evolution.surrogates.ridge.surrogate import PENALTIES, _coefficients
from evo.report.guesses import foreseen, guessed, rank_correlation
from evo.tasks.base import open_task

SIZES = [to_yaml(document(stage("body", repeat=repeat), width=width)) for width in (16, 32, 48) for repeat in (1, 2, 4)]
"""Documents of nine sizes."""


def made(kind: str) -> SurrogateSpec:
    """A surrogate's spec, which chooses one of two."""
    spec = kind_class("surrogate", kind)(pool=2)
    assert isinstance(spec, SurrogateSpec)
    return spec


def searched(spec: SurrogateSpec | None) -> Search:
    """A search of made-up scores, carried to its end."""
    search = Search(settings(seed_document(), generations=3, population=4, surrogate=spec), Journal(":memory:"))
    while trials := search.ask():
        search.tell({trial: made_up(trial) for trial in trials})
    return search


@pytest.fixture(scope="module")
def without() -> Search:
    """A search that asks nobody."""
    return searched(None)


def test_ridge_is_chosen_by_leaving_one_out() -> None:
    """The penalty is the one of the least error when every row is left out in turn, the mean fitted anew."""
    rng = np.random.default_rng(0)
    x_NF = rng.normal(size=(12, 5))
    x_NF -= x_NF.mean(0)
    y_N = x_NF @ rng.normal(size=5) + rng.normal(scale=2.0, size=12)
    y_N -= y_N.mean()

    def solved(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
        return np.linalg.solve(x.T @ x + penalty * np.eye(5), x.T @ y)

    def error(penalty: float) -> float:
        found = 0.0
        for row in range(12):
            x, y = np.delete(x_NF, row, 0), np.delete(y_N, row)
            weights = solved(x - x.mean(0), y - y.mean(), penalty)
            found += (y_N[row] - y.mean() - (x_NF[row] - x.mean(0)) @ weights) ** 2
        return found

    best = min(PENALTIES.tolist(), key=error)
    np.testing.assert_allclose(_coefficients(x_NF, y_N), solved(x_NF, y_N, best), rtol=1e-9)


def test_ridge_learns_what_pays() -> None:
    """From eight documents on, in whatever order the objective has put them; before, it cannot tell."""
    ridge = make_surrogate(made("ridge"), settings())
    sizes = [resolve(document(stage("b"), width=w).organism).parameters for w in (16, 32, 48)]
    assert len(set(sizes)) == 3
    for sign in (1.0, -1.0):
        known = [(text, sign * math.log(len(text) + 100 * place)) for place, text in enumerate(SIZES)]
        guesses = ridge.guess(SIZES, known, [])
        assert guesses is not None
        assert (rank_correlation(guesses, [objective for _, objective in known]) or 0) > 0.7
    assert ridge.guess(SIZES, [(SIZES[0], 0.0)] * 7, []) is None


def mixing(mix: str, **others: Any) -> str:
    """A document with one mixer."""
    return to_yaml(document(stage("body", mix={"kind": mix}, **others), width=16))


def test_normal_scores_go_by_rank() -> None:
    """Quantiles of the normal distribution; equal values get one, failures the lowest."""
    scores = normal_scores([0.5, -math.inf, 0.7, 0.5, -math.inf])
    expected = norm.ppf((np.array([3.5, 1.5, 5.0, 3.5, 1.5]) - 0.5) / 5)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_the_posterior_is_that_of_regression() -> None:
    """As the textbook has it in the space of weights: a Gaussian prior on them and on a constant."""
    rng = np.random.default_rng(1)
    x_NF, asked_PF, y_N = rng.normal(size=(9, 4)), rng.normal(size=(3, 4)), rng.normal(size=9)
    mean_P, deviation_P = posterior(x_NF, y_N, asked_PF, Scale(0.5, 0.25))
    full_NF, full_PF = (np.concatenate((x, np.ones((len(x), 1))), axis=1) for x in (x_NF, asked_PF))
    precision_FF = full_NF.T @ full_NF / 0.25**2 + np.diag([1 / 0.5**2] * 4 + [1 / CONSTANT])
    covariance_FF = np.linalg.inv(precision_FF)
    np.testing.assert_allclose(mean_P, full_PF @ covariance_FF @ full_NF.T @ y_N / 0.25**2, rtol=1e-8)
    variance_P = np.einsum("pf,fg,pg->p", full_PF, covariance_FF, full_PF)
    np.testing.assert_allclose(deviation_P, np.sqrt(variance_P), rtol=1e-8)


def test_the_likeliest_scale_is_found() -> None:
    """The grid's best by the density of what varies, as scipy computes it on the differences from the last score."""
    rng = np.random.default_rng(2)
    x_NF = rng.normal(size=(40, 6))
    y_N = x_NF @ rng.normal(scale=0.5, size=6) + rng.normal(scale=0.25, size=40) + 3.0
    to_last = np.concatenate((np.eye(39), -np.ones((39, 1))), axis=1)

    def density(scale: Scale) -> float:
        covariance = scale.weight**2 * x_NF @ x_NF.T + scale.noise**2 * np.eye(40)
        return multivariate_normal(cov=to_last @ covariance @ to_last.T).logpdf(to_last @ y_N)

    grid = [Scale(weight, noise) for weight in SCALES for noise in SCALES]
    assert likeliest(x_NF, y_N) == max(grid, key=density)


def test_what_nobody_tried_comes_first() -> None:
    """Of equal children the one with a kind that was not tried; not again while another has it that is out; and by
    the mean alone, what was tried and is good before what failed."""
    tried, failed, new, newer = (mixing(mix) for mix in ("convolution", "spatial", "gated_scan", "ema"))
    known = [(tried, 0.5), (failed, -math.inf), (mixing("convolution", repeat=2), 0.5)]
    bold, sober = (
        make_surrogate(kind_class("surrogate", "linear_ucb")(optimism=optimism), settings()) for optimism in (2.0, 0.0)
    )
    ahead = bold.guess([tried, failed, new], known, [])
    assert ahead is not None
    assert max(range(3), key=ahead.__getitem__) == 2
    out = bold.guess([mixing("gated_scan", repeat=2), newer], known, [new])
    assert out is not None
    assert out[1] > out[0]
    guesses = sober.guess([tried, failed], known, [])
    assert guesses is not None
    assert guesses[0] > guesses[1]


def test_choices_are_told_by_role_and_field() -> None:
    """Kinds of every role, and what differs from the default; not what says nothing there."""
    own = document(stage("body", mix={"kind": "attention", "heads": 2, "sink_logit": True}), width=16)
    found = chosen(own)
    assert {"mixer: attention", "optimizer: adamw", "attention.sink_logit: True"} <= found
    assert not any(name.startswith("attention.") and "sink" not in name for name in found)


def test_proxies_are_what_torch_computes() -> None:
    """The norm of the first gradient as torch's own clipping measures it; synaptic flow by autograd on weights that
    were made positive; a document that cannot be run is thought worst."""
    own = document(stage("body", repeat=2), width=16)
    model = build(resolve(own.organism), own.train.seed)
    task = open_task(own.train.task, "/nowhere")  # type: ignore[arg-type]
    batch = task.batch(0, min(own.train.batch, 8), own.context, Stream(own.train.seed).child("proxy"))
    model.loss(batch.inputs_BT, batch.targets_BT, batch.weights_BT).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    broken = to_yaml(document(stage("body"), train={"task": {"kind": "bytes", "corpus": "./gone.txt"}}))
    found = make_surrogate(made("gradient_norm"), settings()).guess([to_yaml(own), broken], [], [])
    assert found == [pytest.approx(math.log(norm), rel=1e-5), -math.inf]

    positive = {path: weight.detach().abs().requires_grad_() for path, weight in model.named_parameters()}
    tokens = torch.zeros(1, own.context, dtype=torch.int64)
    torch.func.functional_call(model, positive, (tokens,)).sum().backward()
    flow = sum((w * w.grad).abs().sum().item() for w in positive.values() if w.grad is not None)
    found = make_surrogate(made("synflow"), settings()).guess([to_yaml(own)], [], [])
    assert found == [pytest.approx(math.log(flow), rel=1e-4)]


@pytest.mark.parametrize("kind", kinds("surrogate"))
def test_a_search_that_asks_one_repeats(kind: str, without: Search) -> None:
    """The same candidates every time, others than without; guesses are in the journal and correlate in the report."""
    first, again = searched(made(kind)), searched(made(kind))
    made_of = [search.journal.dump()["candidates"] for search in (first, again, without)]
    assert made_of[0] == made_of[1]
    assert made_of[0] != made_of[2]
    journal = first.journal
    evaluations = {trial.candidate.id: made_up(trial) for trial in journal.trials()}
    told = guessed(journal, first.settings, evaluations, {})
    assert told is not None
    assert told.kind == kind
    assert told.count == sum(len(journal.fact(f"{GUESSES}/{number}")) for number in range(1, 4)) > 3
    assert (told.curves, told.foresight) == (0, None)
    curves = dict.fromkeys(evaluations, (((1, 8.0), (2, 7.0), (3, 6.5), (4, 6.0), (8, 5.0)),))
    known = guessed(journal, first.settings, evaluations, curves)
    assert known is not None
    assert known.curves == len(evaluations)
    assert guessed(without.journal, without.settings, evaluations, {}) is None


def test_while_nothing_can_be_told_the_search_is_as_without(without: Search) -> None:
    """Ridge regression is mute until eight are trained: the first children are those of a search that asks nobody."""
    asked = searched(made("ridge"))
    first = [search.journal.candidates(1) for search in (asked, without)]
    assert first[0] == first[1]
    assert asked.journal.fact(f"{GUESSES}/1") == {}


def test_ranks_are_compared() -> None:
    """Spearman's correlation, and none where there is nothing to rank."""
    assert rank_correlation([1.0, 2.0, 9.0], [1.0, 4.0, 5.0]) == pytest.approx(1.0)
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_half_a_curve_foretells_the_whole() -> None:
    """Losses that fall by a power law end where their first half says; what is not finite is left out, and a few points
    say nothing."""
    curve = tuple((step, 8.0 * step**-0.2) for step in range(10, 330, 10))
    assert foreseen(curve) == pytest.approx(curve[-1][1], rel=1e-6)
    assert foreseen(((5, math.nan), *curve)) == pytest.approx(curve[-1][1], rel=1e-6)
    assert foreseen(curve[:7]) is None
