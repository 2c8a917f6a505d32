"""Ladders: equal FLOPs at every size, what is recorded is not trained again, and the trend follows from the scores."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from searches import seed_document, settings

from commands import Evo
from evo.base.diagnostics import DiagnosticError
from evo.base.intervals import drawn_interval
from evo.compiler.compute import step_flops, steps_of
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, parse
from evo.dsl.task import Score
from evo.evolution.evaluate import TrialJob
from evo.evolution.ladder.climb import carry_out
from evo.evolution.ladder.findings import Findings, findings
from evo.evolution.ladder.records import FILE, Records, Scored
from evo.evolution.ladder.trainings import Contestant, LadderTraining, Size, contestants, ladder_sizes
from evo.evolution.trial import Evaluation
from evo.report.ladder import conclusions, page, rows

BITS = Score("bits_per_byte", True, 8.0)
ACCURACY = Score("accuracy", False, 0.1, perfect=1.0)
SIZES = (Size(1e6, 1e12), Size(4e6, 1.6e13), Size(1.6e7, 2.56e14))
SPREAD = (-0.002, 0.0, 0.002)


def seed() -> Document:
    """A tiny document."""
    return parse(seed_document()).document


def results(**means: list[float | None]) -> dict[LadderTraining, Scored]:
    """Three trainings at each size around means, by contestant; None failed."""
    found: dict[LadderTraining, Scored] = {}
    for name, own in means.items():
        for at, mean in enumerate(own):
            for number, off in enumerate(SPREAD):
                training = LadderTraining(Contestant(name, at, "", 10**6, 100), number)
                found[training] = Scored(None, "diverged") if mean is None else Scored(mean + off)
    return found


def found(primary: Score = BITS, **means: list[float | None]) -> Findings:
    """What such trainings show."""
    return findings(results(**means), SIZES, primary)


def test_sizes_keep_the_tokens_of_a_parameter() -> None:
    """FLOPs grow with the square of the size, from the variant's own training on, or from what is said."""
    document = seed()
    own, whole = resolve(document.organism).parameters, steps_of(document) * step_flops(document)
    sizes = ladder_sizes(document, [2 * own, own])
    assert [size.flops for size in sizes] == pytest.approx([whole, 4 * whole])
    assert [size.flops for size in ladder_sizes(document, [1e6, 3e6], 1e12)] == pytest.approx([1e12, 9e12])


def test_contestants_get_equal_flops() -> None:
    """To half a step, at each size, whatever a step of theirs costs."""
    wide = parse(seed_document(batch=3)).document
    sizes = ladder_sizes(seed(), [10_000, 20_000], 1e9)
    for own in contestants({"one": seed(), "two": wide}, sizes, "stretching"):
        each = step_flops(parse(own.document).document)
        assert own.steps * each == pytest.approx(sizes[own.at].flops, abs=each / 2)
        assert own.parameters == pytest.approx(sizes[own.at].parameters, rel=1 / 3)


@pytest.mark.parametrize(
    ("variant", "trend"),
    [
        ([1.99, 1.69, 1.38], "grows"),
        ([1.98, 1.683, 1.386], "holds"),
        ([1.92, 1.65, 1.375], "shrinks"),
        ([1.92, 1.68, 1.4], "vanishes"),
        ([1.92, 1.68, 1.5], "reversed"),
        ([2.02, 1.72, 1.42], "reversed"),
        ([2.0, 1.7, 1.4], "none"),
    ],
)
def test_the_trend_follows_from_the_scores(variant: list[float | None], trend: str) -> None:
    """Of a baseline at 2.0, 1.7 and 1.4 bits, with a noise of 0.002; nothing else is said on the page."""
    own = found(variant=variant, plain=[2.0, 1.7, 1.4])
    (advantage,) = own.advantages
    assert advantage.trend == trend
    assert trend.removesuffix("s").removesuffix("d")[:4] in conclusions(own)[0] or trend in ("none", "reversed")


def test_laws_and_equal_compute_are_those_of_the_means() -> None:
    """The slope is numpy's line; a constant ratio of losses is a constant ratio of FLOPs."""
    own = found(variant=[1.98, 1.683, 1.386], plain=[2.0, 1.7, 1.4])
    variant, plain = own.climbs
    assert variant.law is not None
    assert plain.law is not None
    flops = [size.flops for size in SIZES]
    assert plain.law.slope == pytest.approx(-np.polyfit(np.log(flops), np.log([2.0, 1.7, 1.4]), 1)[0])
    (advantage,) = own.advantages
    assert advantage.gains[2] == pytest.approx(0.01)
    assert advantage.equal_compute is not None
    assert plain.law(advantage.equal_compute * flops[-1]) == pytest.approx(variant.law(flops[-1]), rel=1e-4)
    assert advantage.slope is not None
    assert advantage.slope.value == pytest.approx(0.0, abs=1e-9)


def test_a_loss_that_rises_with_compute_obeys_no_law() -> None:
    """Nothing is foretold of what overfits, nor of how much compute would match it."""
    told = found(variant=[2.3, 2.0, 2.6], baseline=[2.5, 2.2, 2.0])
    assert told.climbs[0].law is None
    assert told.climbs[0].ahead is None
    assert told.advantages[0].equal_compute is None
    assert "variant: its losses do not fall by a power law of compute" in conclusions(told)


def test_a_law_that_some_draws_do_not_have_is_told_without_an_interval() -> None:
    """Losses that fall by less than their noise foretell a number and no bounds."""
    means = [2.0, 1.9999, 1.9996]
    ahead = found(variant=means, plain=means).climbs[0].ahead
    assert ahead is not None
    assert (ahead.low, ahead.high) == (None, None)


def test_higher_scores_may_be_better() -> None:
    """Of accuracies, the distance from 1 is what falls."""
    own = found(ACCURACY, variant=[0.6, 0.8, 0.9], plain=[0.5, 0.7, 0.8])
    assert own.advantages[0].trend == "grows"
    assert own.advantages[0].gains[2] == pytest.approx(0.5)


def test_what_failed_is_told_and_left_out() -> None:
    """A size where a training failed counts for nobody; one size or one seed tells no trend."""
    own = found(variant=[1.9, 1.6, None], plain=[2.0, 1.7, 1.4])
    assert list(own.advantages[0].differences) == [0, 1]
    assert "diverged" in str(rows(own))
    assert found(variant=[1.9, None, None], plain=[2.0, 1.7, 1.4]).advantages[0].trend == "unknown"
    whole = results(a=[1.9, 1.6, 1.3], b=[2.0, 1.7, 1.4])
    alone = findings({training: scored for training, scored in whole.items() if not training.seed}, SIZES, BITS)
    assert alone.advantages[0].trend == "unknown"
    json.dumps(alone.to_data(), allow_nan=False)
    json.dumps(own.to_data(), allow_nan=False)


def test_every_page_is_whole() -> None:
    """Whatever came of the trainings, and whatever contestants are called."""
    for own in (
        found(**{"<b>": [1.9, 1.6, None], "plain": [2.0, 1.7, 1.4]}),
        found(variant=[None, None, None], plain=[None, None, None]),
        found(ACCURACY, variant=[1.0, 1.0, 1.0], plain=[0.5, 0.7, 0.8]),
    ):
        text = page(own)
        assert text.count("<table") == text.count("</table>") == 1
        assert "<b>" not in text
        assert "nan" not in text


def test_drawn_intervals_are_as_wide_as_students() -> None:
    """Means of few samples, drawn one fewer than there are: the interval is near Student's t."""
    rng = np.random.default_rng(0)
    sample = rng.normal(size=6)
    draws = [float(rng.choice(sample, 5).mean()) for _ in range(20_000)]
    low, high = drawn_interval(draws, 5)
    half = 2.571 * sample.std(ddof=1) / math.sqrt(6)
    assert (high - low) / 2 == pytest.approx(half, rel=0.12)


def by_steps(job: TrialJob) -> Evaluation:
    """Scores that fall with the steps, and differ by seed and batch; the third seed fails."""
    assert job.is_verdict
    assert job.course is not None
    if job.repeat == 2:
        return Evaluation("diverged", "not a number")
    batch = parse(job.document).document.train.batch
    return Evaluation(scores={"bits_per_byte": 2.0 + 1.0 / job.course.steps + 0.01 * job.repeat + 0.1 * batch})


def test_a_ladder_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What is recorded is not trained again; another seed trains no more than itself, other kernels everything."""
    texts = {"one": seed_document(), "two": seed_document(batch=3)}
    documents = {name: parse(text).document for name, text in texts.items()}
    own = settings(*texts.values())
    sizes = ladder_sizes(documents["one"], [10_000, 20_000], 2e8)
    told: list[str] = []

    def go_on(seeds: int, kernels: str = "auto") -> Findings:
        return carry_out(
            tmp_path,
            documents,
            sizes,
            replace(own, kernels=kernels),
            seeds=seeds,
            on_scored=lambda number, of, training, scored: told.append(f"{number}/{of} {training.contestant.name}"),
            evaluate="test_ladder:by_steps",
        )

    first = go_on(1)
    assert told == ["1/4 one", "2/4 two", "3/4 one", "4/4 two"]
    assert go_on(1) == first
    more = go_on(2)
    assert told[4:] == ["5/8 one", "6/8 two", "7/8 one", "8/8 two"]
    assert more.climbs[0].scores[0][0] == first.climbs[0].scores[0][0]
    assert go_on(3).climbs[0].causes == {0: "diverged", 1: "diverged"}
    assert json.loads((tmp_path / FILE).read_text())["advantages"][0]["baseline"] == "two"
    go_on(1, kernels="reference")
    assert len(told) == 16


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    """A file that no ladder wrote is left alone."""
    for text in ("", "[]", '{"evo_ladder": 9, "trainings": {}}', '{"evo_ladder": 1, "trainings": {"a": {"no": 1}}}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(DiagnosticError, match="EVO600"):
            Records(tmp_path / FILE)


def test_the_command_refuses_what_it_cannot_train(evo: Evo, tmp_path: Path) -> None:
    """Sizes that are none, or out of reach, and texts that do not compare."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(seed_document())
    (other := tmp_path / "other.yaml").write_text(seed_document(batch=3))
    two.write_text(seed_document(task={"kind": "xor"}))
    assert evo("ladder", one).code == 2
    assert evo("ladder", one, other, "--sizes", "lots").code == 2
    assert "EVO624" in evo("ladder", one, other, "--sizes", "50", "--out", tmp_path / "out").err
    assert "named twice" in evo("ladder", one, one, "--sizes", "10k", "--out", tmp_path / "out").err
    assert "EVO621" in evo("ladder", one, two, "--sizes", "10k", "--out", tmp_path / "out").err


@pytest.mark.slow
def test_the_command_tells_and_writes(evo: Evo, tmp_path: Path) -> None:
    """A table and sentences, or JSON of the same numbers; both files."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(seed_document())
    two.write_text(seed_document(batch=3))
    command = ("ladder", one, two, "--sizes", "10k,20k", "--flops", 2e8, "--seeds", 2, "--workers", 0)
    shown = evo(*command, "--out", tmp_path / "out")
    assert shown.code == 0
    assert "8/8 two" in shown.err
    assert "one against two: " in shown.out
    told = evo(*command, "--out", tmp_path / "out", "--json").json
    assert told["advantages"][0]["trend"] in shown.out or told["advantages"][0]["trend"] in ("none", "reversed")
    assert (tmp_path / "out" / "ladder.html").read_text().startswith("<!doctype html>")
    assert told["climbs"][0]["contestants"][1]["scores"]
