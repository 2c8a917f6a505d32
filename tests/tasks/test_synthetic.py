"""Synthetic tasks ask what their papers say: programs that follow the definition answer everything, a guess little."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import solvers
import torch
from solvers import Solver, predicting
from torch import Tensor

from evo.base.diagnostics import DiagnosticError
from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.dsl.document import from_data
from evo.dsl.index import kind_class
from evo.tasks.base import open_task
from evo.tasks.held_out import IGNORED
from evo.tasks.synthetic import SyntheticTask
from evo.training.loop import Trainer
from evo.training.score import held_out_scores

TOKENS = 8_000
STREAM = Stream(0).child("data")
WINDOW = {"kind": "window", "size": 16}
"""Two layers of it reach 30 tokens back; the question has 38."""


def opened(kind: str, **settings: Any) -> Any:
    """A task of few sequences."""
    cls = kind_class("task", kind)
    module, _, name = cls.builder.partition(":")  # type: ignore[attr-defined]
    found = getattr(__import__(module, fromlist=[name]), name)(cls(examples=300, **settings), Path())
    assert isinstance(found, SyntheticTask)
    return found


def guess(vocab: int) -> Callable[[Tensor], Tensor]:
    """A model that knows nothing, with an opinion all the same."""
    generator = torch.Generator().manual_seed(0)
    return lambda tokens_BT: torch.randn(*tokens_BT.shape, vocab, generator=generator)


SOLVED: list[tuple[str, int, Solver, float]] = [
    ("recall", 128, solvers.recall, 0.2),
    ("recall", 127, solvers.recall, 0.2),
    ("noisy_recall", 128, solvers.recall, 0.1),
    ("fuzzy_recall", 128, solvers.fuzzy_recall, 0.2),
    ("selective_copy", 256, solvers.selective_copy, 0.15),
    ("mqar", 64, solvers.mqar, 0.02),
    ("mqar", 512, solvers.mqar, 0.02),
    ("parity", 40, solvers.parity, 0.55),
    ("xor", 40, solvers.xor, 0.6),
    ("xor", 41, solvers.xor, 0.6),
    ("passkey", 128, solvers.passkey, 0.05),
    ("passkey", 78, solvers.passkey, 0.05),
]


@pytest.mark.parametrize(("kind", "context", "solve", "chance"), SOLVED)
def test_it_is_solved_by_its_definition_only(kind: str, context: int, solve: Solver, chance: float) -> None:
    """A program that follows the definition and looks back only is always right; a guess is right by chance."""
    task = opened(kind)
    scores = task.score(predicting(solve, task.vocab), context, TOKENS)
    assert scores["accuracy"] == 1.0
    assert scores["bits_per_target"] < 1e-6
    assert task.score(guess(task.vocab), context, TOKENS)["accuracy"] < chance
    assert task.score(lambda t: torch.zeros(*t.shape, task.vocab), context, TOKENS)["bits_per_target"] == pytest.approx(
        math.log2(task.vocab), rel=1e-4
    )


@pytest.mark.parametrize("kind", ["recall", "noisy_recall", "fuzzy_recall", "xor"])
def test_every_next_symbol_is_trained_and_some_are_scored(kind: str) -> None:
    """As published: training asks for all that follows, scores for what can be known."""
    task = opened(kind)
    batch, held_out = task.batch(0, 4, 128, STREAM), next(task.held_out(128, 128, 1))
    assert bool((batch.weights_BT == 1).all())
    assert torch.equal(batch.inputs_BT[:, 1:], batch.targets_BT[:, :-1])
    assert 0 < float(held_out.weights_BT.mean()) < 0.6


def test_facts_are_the_same_everywhere() -> None:
    """Memorised values are those of the training sequences, differ from one another, and are never shown."""
    task = opened("memorization")
    drawn = task._drawn(32, True)
    training = list(zip(*(tensor.tolist() for tensor in drawn), strict=True))
    scores = task.score(predicting(solvers.remembered(training), 256), 32, TOKENS)
    assert scores["accuracy"] == 1.0
    asked = {target for _, targets in training for target in targets if target != IGNORED}
    assert len(asked) == 127
    assert not asked & {token for tokens, _ in training for token in tokens}
    other = opened("memorization", draw=1)
    assert other.score(predicting(solvers.remembered(training), 256), 32, TOKENS)["accuracy"] < 0.1


def test_a_vector_that_holds_the_sequence_is_read_whole() -> None:
    """Compression: entries of each place that name its symbol give 1; those of half the places give about half."""
    task = opened("compression")

    def predict(tokens_BT: Tensor, places: int = 31) -> Tensor:
        logits_BTV = torch.zeros(*tokens_BT.shape, task.vocab)
        for place in range(places):
            shown_B = tokens_BT[:, -2 - place]
            logits_BTV[torch.arange(len(tokens_BT)), -1, 16 + 15 * place + shown_B] = 50.0
        return logits_BTV

    assert task.vocab == 16 + 31 * 15
    assert task.score(predict, 32, TOKENS)["accuracy"] == 1.0
    assert task.score(lambda t: predict(t, 16), 32, TOKENS)["accuracy"] == pytest.approx(16.5 / 31, abs=0.05)
    batch = task.batch(0, 64, 32, STREAM)
    right = predict(batch.inputs_BT)[:, -1].gather(1, batch.targets_BT[:, -1:])
    assert bool((right == 50.0).all())
    assert bool((batch.weights_BT.sum(1) == 1).all())


def test_a_sine_is_followed_to_its_level() -> None:
    """The mean squared error is 0 for the level asked for, E[A^2] / 2 for zero, and no more than a uniform guess's."""
    task = opened("sine")
    asked = {tuple(inputs): targets for batch in task.held_out(32, TOKENS, 16) for inputs, targets in zip(
        batch.inputs_BT.tolist(), batch.targets_BT.tolist(), strict=True)}  # fmt: skip
    exact = task.score(predicting(lambda tokens: asked[tuple(tokens)], 128), 32, TOKENS)
    assert exact["mean_squared_error"] < 1e-12
    nothing = task.score(lambda t: torch.zeros(*t.shape, 128), 32, 40_000)["mean_squared_error"]
    assert nothing == pytest.approx(task.primary.uniform, rel=0.1)
    assert task.primary.remainder(nothing) == pytest.approx(1.0, rel=0.1)


def test_distances_of_queries_follow_the_power_law() -> None:
    """At exponent 0.01 most queries come soon behind the pairs, at 1 anywhere; none is asked twice."""
    near = {}
    for power in (0.01, 1.0):
        _, targets_NT = opened("mqar", power=power)._drawn(256, True)
        counts = (targets_NT != IGNORED).sum(1)
        assert bool((counts == 8).all())
        places = np.nonzero((targets_NT != IGNORED).numpy())[1] - 16
        assert bool((places % 2 == 0).all())
        near[power] = float((places < 24).mean())
    assert near[1.0] == pytest.approx(0.1, abs=0.03)
    assert near[0.01] > 0.4


def test_training_and_held_out_sequences_differ() -> None:
    """No held-out sequence is trained on, and another seed draws others; the digest names the seed."""
    task, other = opened("selective_copy"), opened("selective_copy", draw=1)
    rows = [{tuple(row) for row in found._drawn(64, side)[0].tolist()} for found, side in ((task, True), (task, False))]
    assert not rows[0] & rows[1]
    assert task.digest != other.digest
    assert not torch.equal(task._drawn(64, True)[0], other._drawn(64, True)[0])


def test_a_prompt_must_be_symbols() -> None:
    """Numbers of the vocabulary are its text; anything else is EVO524."""
    task = opened("recall")
    assert task.encode(b"3 15\n0") == [3, 15, 0]
    for text in (b"hello", b"16", b"-1"):
        with pytest.raises(DiagnosticError, match=r"EVO524 .* is no symbol of recall"):
            task.encode(text)


@pytest.mark.slow
@pytest.mark.parametrize(("stencil", "low", "high"), [({"kind": "full"}, 0.9, 1.0), (WINDOW, 0.0, 0.2)])
def test_a_passkey_tells_who_can_look_back(stencil: dict[str, Any], low: float, high: float) -> None:
    """Two layers of attention find the key; with windows that end behind the question they stay at one digit in ten."""
    data: dict[str, Any] = {
        "evo": 1,
        "organism": {
            "width": 64,
            "context": 88,
            "stages": [{"name": "body", "repeat": 2, "mix": {"kind": "attention", "heads": 4, "stencil": stencil}}],
        },
        "train": {"task": {"kind": "passkey", "digits": 3}, "steps": 350, "optimizer": {"kind": "adamw", "lr": 3e-3}},
    }
    document = from_data(data).document
    task = open_task(document.train.task, Path())
    trainer = Trainer(build(resolve(document.organism), 0), task, document.train)
    trainer.run()
    assert low <= held_out_scores(trainer.model, task, 88, tokens=8_000)["accuracy"] <= high
