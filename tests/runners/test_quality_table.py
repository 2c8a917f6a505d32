"""`runners/quality_table.py`: calls add up to one table, whose differences are paired by corpus and search seed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "runners" / "quality_table.py"
SETTING = {"steps": 4, "candidates": 6, "population": 2}


@pytest.fixture(scope="module")
def table() -> ModuleType:
    """The runner's module."""
    spec = importlib.util.spec_from_file_location("quality_table", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(seed: int, scores: dict[str, list[float | None]], times: float = 3.3) -> dict[str, Any]:
    """A call over one corpus with one search seed; scores by name, one for each training seed."""
    checks = [
        {"name": name, "corpus": "text", "seed": n, "times": times, "score": score}
        for name, own in scores.items()
        for n, score in enumerate(own)
    ]
    row = {"corpus": "text", "seed": seed, "trained": 6, "failed": {"leak: x": 2}, "flops": 1e9, "seconds": 5.0}
    searches = [{"arm": name.split("/")[0], **row, "is_complete": True} for name in scores if "/" in name]
    return {
        "setting": SETTING, "command": "python it", "commit": "c", "hardware": "h", "searches": searches,
        "checks": checks, "texts": {"text": {"bytes": 10, "digest": "abc"}},
    }  # fmt: skip


def test_calls_add_up(table: ModuleType) -> None:
    """Searches of several calls are one sample, and an arm is held against another search by search."""
    plain: dict[str, list[float | None]] = {"seed document": [2.0, 2.2]}
    calls = [
        call(0, {**plain, "evolve/0": [1.9, 2.1], "random/0": [2.0, 2.1]}),
        call(1, {**plain, "evolve/1": [1.7, 1.9], "random/1": [1.7, 2.0]}),
    ]
    evolve, random = table.rows(calls, 3.3)
    assert (evolve["arm"], evolve["searches"], evolve["better"]) == ("evolve", 2, 2)
    assert evolve["all"] == pytest.approx((-0.2, 12.7062 * 0.1), rel=1e-4)  # Student's t of one degree of freedom
    assert random["all"][0] == pytest.approx(-0.15)
    against = {row["minus"]: row["all"] for row in table.differences(calls, 3.3)}
    assert against["random"] == pytest.approx((-0.05, 0.0))
    assert against["seed document"] == pytest.approx(evolve["all"])


def test_training_seeds_are_common(table: ModuleType) -> None:
    """Where a call was stopped, only training seeds that both have count; one that failed leaves no number."""
    stopped = call(0, {"seed document": [2.0], "evolve/0": [1.9, 1.0], "random/0": [None, 2.0]})
    assert table.changes([stopped], 3.3)["evolve"]["text", 0] == pytest.approx(-0.1)
    random = table.rows([stopped], 3.3)[1]
    assert random["all"] is None
    assert (random["searches"], random["better"]) == (1, 0)


def test_verdicts_of_other_lengths_stay_apart(table: ModuleType) -> None:
    """A section each for every setting and every length of the verdict."""
    scores: dict[str, list[float | None]] = {"seed document": [2.0], "evolve/0": [1.9]}
    longer = {**call(0, scores, times=10.0), "searches": []}
    page = table.tables([call(0, scores), longer, {**call(0, scores), "setting": {**SETTING, "steps": 5}}])
    assert [line for line in page.splitlines() if line.startswith("##")] == [
        "## 6 x 4 seed steps of FLOPs a search, verdict at 3.3 x of one",
        "## 6 x 4 seed steps of FLOPs a search, verdict at 10 x of one",
        "## 6 x 5 seed steps of FLOPs a search, verdict at 3.3 x of one",
    ]
