"""Trackers of a search hear of every trial and generation, and of what follows a stop under numbers that go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import searches

from commands import Evo


@pytest.mark.usefixtures("strangers")
def test_a_search_tells_its_trackers(tmp_path: Path, evo: Evo) -> None:
    """A note a trial and one a generation, by `evolve` and by `resume`; an unknown tracker stops it early."""
    from strangers.training import Listed

    Listed.told.clear()
    Listed.ends.clear()
    cfg, out = tmp_path / "tiny.yaml", tmp_path / "run"
    cfg.write_text(searches.seed_document() + "evolve: {verify: {seeds: 0}, repeats: 1, centroids: {kind: uniform}}\n")
    options = ("--generations", 1, "--population", 1, "--workers", 0, "--device", "cpu", "--out", out)
    assert "EVO210" in evo("evolve", cfg, *options, "--track", "abacus").err
    assert evo("evolve", cfg, *options, "--track", "listed", "--json").code == 0
    assert evo("resume", out, "--generations", 2, "--track", "listed", "--json").code == 0
    assert [step for step, _ in Listed.told] == [1, 1, 2, 2, 3, 3]
    trials, generations = Listed.told[::2], Listed.told[1::2]
    assert all({"trial/bits_per_byte", "trial/train_loss", "trial/seconds"} <= values.keys() for _, values in trials)
    assert [values["search/generation"] for _, values in generations] == [0, 1, 2]
    assert generations[0][1]["search/best_score"] == trials[0][1]["trial/bits_per_byte"]
    assert Listed.ends == ["run", "run"]
