"""Noise: who would win by luck is tried again, and what counts afterwards is the mean."""

from __future__ import annotations

import numpy as np
import pytest
from searches import settings

from evo.compiler.compute import step_tokens
from evo.dsl.rungs import AshaFidelity
from evo.evolution.documents import document_of
from evo.evolution.journal import Journal
from evo.evolution.noise import Noise
from evo.evolution.search import Search
from evo.evolution.settings import budget_after
from evo.evolution.trial import FULL_BUDGET, Evaluation, Trial, latest


def lucky(trial: Trial, spread: float = 0.3) -> Evaluation:
    """A score that a hash makes up, with luck that the repetition makes up."""
    worth = int(trial.candidate.hash[:6], 16) / 0xFFFFFF
    rng = np.random.Generator(np.random.Philox([int(trial.candidate.hash[:8], 16), trial.repeat + 7 * trial.rung]))
    place = tuple(worth * (n + 3) % 1 for n in range(5))
    score = 3 + worth + spread * rng.standard_normal()
    return Evaluation(scores={"bits_per_byte": score, "gradient_evenness": 0.5}, measures=place)


def carried_out(search: Search, spread: float = 0.3) -> Search:
    """A whole search on luck."""
    while trials := search.ask():
        search.tell({trial: lucky(trial, spread) for trial in trials})
    return search


def test_the_spread_is_pooled() -> None:
    """Within candidates, never between them, by degrees of freedom."""
    noise = Noise()
    assert noise.deviation is None
    noise.note([0.0, 2.0])
    noise.note([10.0, 10.0, 13.0])
    assert noise.deviation == pytest.approx(np.sqrt((2.0 + 6.0) / 3))


@pytest.mark.parametrize("fidelity", [None, AshaFidelity(eta=2, rungs=2)])
def test_who_would_win_by_luck_is_tried_again(fidelity: AshaFidelity | None) -> None:
    """The best seed gets all repetitions; others get some, never more; archives and journal hold the means."""
    more = {} if fidelity is None else {"fidelity": fidelity}
    search = carried_out(Search(settings(generations=4, population=6, repeats=3, cells=4, **more), Journal(":memory:")))
    trials = search.journal.trials()
    counts: dict[tuple[str, int], int] = {}
    for trial in trials:
        counts[trial.candidate.id, trial.rung] = counts.get((trial.candidate.id, trial.rung), 0) + 1
        assert trial.repeat == counts[trial.candidate.id, trial.rung] - 1
        assert not (trial.repeat and trial.done)
    top = search.scheduler.top
    assert counts["0000/00", top] == 3
    assert max(counts.values()) == 3
    assert any(count > 1 for (id, _), count in counts.items() if id != "0000/00")
    results = {result.trial.candidate.id: result for result in latest({trial: lucky(trial) for trial in trials})}
    for elite in search.archives.result.elites():
        own, result = search.archives.standings[str(elite.id)], results[str(elite.id)]
        assert own.count == result.count == counts[own.id, own.trial.rung]
        assert elite.objective == pytest.approx(search.judge.scoring.terms(result).objective)


def test_without_luck_or_repeats_nobody_is_tried_again() -> None:
    """Where equal trials give equal scores only the seed is; with one repetition allowed not even that."""
    same = carried_out(Search(settings(generations=2, population=4, repeats=3), Journal(":memory:")), spread=0.0)
    assert {trial.candidate.id for trial in same.journal.trials() if trial.repeat} == {"0000/00"}
    never = carried_out(Search(settings(generations=2, population=4, repeats=1), Journal(":memory:")))
    assert not any(trial.repeat for trial in never.journal.trials())


def test_a_repetition_that_fails() -> None:
    """Fails a child, whose score was luck; a seed that gave a score stays what the run is founded on."""
    search = Search(settings(generations=3, population=6, repeats=2, cells=2), Journal(":memory:"))
    while trials := search.ask():
        search.tell({t: Evaluation("diverged", "nan") if t.repeat else lucky(t) for t in trials})
    failed = {trial.candidate.id for trial in search.journal.trials() if trial.repeat and trial.candidate.parents}
    assert not failed & {str(elite.id) for elite in search.archives.result.elites()}
    assert search.archives.standings["0000/00"].count == 2


def test_a_score_reads_half_of_what_is_trained_on() -> None:
    """So that scoring costs a sixth of training: within a snapshot's tokens and the most of any score."""
    read = [FULL_BUDGET.after(tokens).held_out_tokens for tokens in (1_000, 20_480, 10**9)]
    assert read == [4_096, 10_240, 32_768]
    seed = document_of(settings().seeds[0])
    assert seed.train.steps * step_tokens(seed) < 8_192
    assert budget_after(seed).held_out_tokens == 4_096
