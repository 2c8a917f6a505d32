"""The picture of lives: what events tell is drawn, in a search's report and beside a training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from made_reports import HOSTILE, sample

from commands import Evo
from evo.report.html import page
from evo.report.page.life import pools
from evo.slime.lives import Lived, events_of, lives

EVENTS = [
    {"event": "look", "step": 2, "pool": "a", "alive": [[0, "s0", 0], [1, "s1", 0]]},
    {"event": "birth", "step": 4, "pool": "a", "slot": 2, "name": "b4.2", "parent": "s1"},
    {"event": "death", "step": 6, "pool": "a", "slot": 1, "name": "s1", "cause": "cull", "age": 6},
    {"event": "birth", "step": 8, "pool": "a", "slot": 1, "name": "b8.1", "parent": "s1"},
    {"event": "birth", "step": 9, "pool": "a", "slot": 3, "name": "b9.3", "parent": None},
]
TOLD = (
    Lived("a", 0, "s0", 0),
    Lived("a", 1, "s1", 0, 6, cause="cull"),
    Lived("a", 2, "b4.2", 4, parent="s1"),
    Lived("a", 1, "b8.1", 8, parent="s1"),
    Lived("a", 3, "b9.3", 9),
)


def test_events_tell_lives() -> None:
    """Births, deaths and who was alive at looks; damaged lines are passed over."""
    lines = [
        json.dumps({"step": 1, "events": EVENTS[:2]}),
        "[]",
        "{",
        '{"step": 2}',
        json.dumps({"events": EVENTS[2:]}),
    ]
    assert lives(events_of(lines)) == TOLD


def test_every_life_is_a_bar_that_tells_its_story() -> None:
    """Bars, one cross a death, a line from each elite that is known, dashed from the dead."""
    drawing, table = pools(TOLD, 12)
    assert drawing.count('class="lived"') == 2
    assert drawing.count('class="lived born"') == 3
    assert drawing.count('class="failed"') == 1
    assert (drawing.count('class="descent"'), drawing.count('class="descent late"')) == (1, 1)
    assert "<title>b8.1: from s1, born at 8, lives on</title>" in drawing
    assert table.count("<tr>") == 6


def test_a_search_shows_the_life_of_its_best() -> None:
    """Only where there is one; names of a run cannot become markup."""
    plain = sample()
    assert "Life of the pools" not in page(plain)
    variants = tuple(
        replace(v, lives=(*TOLD, Lived(HOSTILE, 0, HOSTILE, 0))) if v.id == plain.best else v for v in plain.variants
    )
    whole = page(sample(variants=variants))
    assert "Life of the pools" in whole
    assert HOSTILE not in whole
    (best,) = [row for row in sample(variants=variants).to_data()["variants"] if row["id"] == plain.best]
    assert best["lives"][1] == {**vars(TOLD[1])}


def test_a_training_leaves_its_picture(tmp_path: Path, evo: Evo) -> None:
    """life.html lies beside the metrics of a living pool, and not of others."""
    text = "evo: 1\nname: tiny\norganism: {width: 16, context: 16, stages: [{name: a, mix: {kind: pool, slots: 4}}]}\n"
    living = "  life: {kind: annealed, every: 2, warmup: 2, gentle: 2, cells: 8}\n"
    for name, more in (("living", living), ("still", "")):
        cfg = tmp_path / f"{name}.yaml"
        cfg.write_text(f"{text}train:\n  steps: 4\n  batch: 2\n{more}")
        outcome = evo("train", cfg, "--out", tmp_path / name, "--device", "cpu")
        assert (outcome.code, "life.html" in outcome.out) == (0, bool(more))
        assert (tmp_path / name / "life.html").exists() == bool(more)
    assert (tmp_path / "living" / "life.html").read_text().count("<rect") == 4
