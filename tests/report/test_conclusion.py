"""The conclusion: one record of a verdict, which the summary, the page and the data give alike."""

from __future__ import annotations

import json

import pytest
from made_reports import sample
from test_html import Outline
from verdicts import Scores, judged

from evo.evolution.verdict import Verdict
from evo.report.conclusion import conclusion
from evo.report.html import page
from evo.report.search import summary_lines
from evo.tasks.bytes.spec import BytesSpec

BPB = BytesSpec.primary
LOW, MIDDLE, HIGH = (2.90, 2.91, 2.92), (3.00, 3.01, 3.02), (3.20, 3.21, 3.22)
WIDE = (2.5, 3.0, 3.4)


def of(winner: Scores, seed: Scores, leader: Scores | None = None, own: Scores | None = None) -> Verdict:
    """On winner 0001/00 and best seed 0000/00; on leader 0001/01 and own seed 0000/01 where these are others."""
    scores: dict[str, Scores] = {"0001/00": winner, "0000/00": seed}
    if leader is not None:
        scores["0001/01"] = leader
    if own is not None:
        scores["0000/01"] = own
    last, root = list(scores)[2:3] if leader is not None else ["0001/00"], "0000/01" if own is not None else "0000/00"
    return judged(scores, "0001/00", last[0], "0000/00", root)


ALONE = judged({"0000/00": LOW}, "0000/00", "0000/00", "0000/00", "0000/00")
CASES: dict[str, tuple[Verdict | None, str, str]] = {
    "the winner wins": (of(LOW, HIGH), "yes", "Better than the best seed by 0.3000"),
    "the winner loses": (of(HIGH, LOW), "no", "Worse than the best seed by 0.3000"),
    "within noise": (of(MIDDLE, WIDE), "", "Within noise of the best seed"),
    "another variant wins": (of(HIGH, MIDDLE, LOW), "yes", "The variant of the lowest score is better"),
    "both lose": (of(HIGH, LOW, MIDDLE), "no", "Worse than the best seed"),
    "a weak winner's seed": (of(MIDDLE, LOW, own=HIGH), "no", "Worse than the best seed by 0.1000"),
    "all failed": (of("memory", "timeout"), "", "No verdict: a training from scratch failed"),
    "the winner failed, the leader wins": (of("diverged", MIDDLE, LOW), "yes", "The variant of the lowest score"),
    "the seed failed": (of(LOW, "crash"), "", "No verdict: a training from scratch failed"),
    "one candidate": (ALONE, "no", "Nothing better than the seed was found"),
    "one seed each": (of((2.9,), (3.0,)), "", "One training each cannot tell"),
    "none": (None, "", "No verdict"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_reader_gets_the_same(name: str) -> None:
    """The heading and mood of every kind of run are one record: the summary's line, the page's title and colour, the
    data."""
    verdict, mood, title = CASES[name]
    said = conclusion(verdict, BPB, 3)
    assert (said.mood, said.title.startswith(title)) == (mood, True), said.title
    report = sample(verdict=verdict)
    assert f"verdict: {said.title}" in summary_lines(report)
    outline = Outline(page(report))
    assert said.title in outline.said().split("Progress")[0]
    moods = [value for value in outline.values("class") if value in ("yes", "no")]
    assert moods == ([mood] if mood else [])
    assert json.loads(json.dumps(report.to_data()))["conclusion"]["title"] == said.title


def test_the_winners_seed_is_named_where_it_is_another() -> None:
    """A winner that beats its own weak seed and loses to the best is said to do both."""
    said = " ".join(conclusion(CASES["a weak winner's seed"][0], BPB, 3).sentences)
    assert "0000/01 (seed of the winner's line): 3.2100 after 100 steps; the winner is better than it (-0.2000" in said
    assert "0000/00 (best seed): 2.9100 after 100 steps; the winner is worse than it (+0.1000" in said


@pytest.mark.parametrize(("seeds", "why"), [(0, "verify.seeds is 0"), (3, "has not ended")])
def test_no_verdict_says_why(seeds: int, why: str) -> None:
    """A run that was told to leave the verdict out is not said to go on perhaps."""
    (sentence,) = conclusion(None, BPB, seeds).sentences
    assert why in sentence
    assert " or " not in sentence


def test_a_failed_training_is_named_with_its_cause() -> None:
    """Who failed, and of what."""
    said = " ".join(conclusion(CASES["the seed failed"][0], BPB, 3).sentences)
    assert "0000/00 (best seed, seed of the winner's line): a training failed (crash)." in said
