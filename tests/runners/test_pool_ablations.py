"""`runners/pool_ablations.py`: every arm is a sound document of equal size and budget, and gaps are paired."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evo.compiler.check import require_valid
from evo.compiler.compute import step_flops, steps_of
from evo.compiler.resolve import resolve
from evo.dsl.document import from_data

FILE = Path(__file__).parents[2] / "runners" / "pool_ablations.py"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("pool_ablations", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_arms_have_equal_parameters_and_equal_flops(runner: ModuleType) -> None:
    """Within a percent, at the sizes that it runs by default; only living arms live."""
    args = runner.parsed([])
    flops = runner.flops_of(args)
    sizes, totals = [], []
    for arm in runner.ARMS:
        read = require_valid(from_data(runner.document(arm, 0, args, flops)))
        sizes.append(resolve(read.organism).parameters)
        totals.append(step_flops(read) * steps_of(read))
        assert (read.train.life is not None) == (arm in runner.LIVES)
    assert max(sizes) / min(sizes) < 1.01
    assert max(totals) / min(totals) < 1.01


def test_gaps_are_paired_by_seed(runner: ModuleType) -> None:
    """A difference that is the same for each seed has no width, however much the seeds differ."""
    base: dict[str, Any] = {"cause": "", "parameters": 1, "steps": 2, "seconds": 1.0, "births": 0, "deaths": None}
    scores = {runner.TRANSFORMER: (2.0, 5.0, 3.0), runner.LIVING: (1.9, 4.9, 2.9)}
    found = [
        {**base, "arm": arm, "seed": seed, "score": score}
        for arm, values in scores.items()
        for seed, score in enumerate(values)
    ]
    living = next(row for row in runner.rows_of(found) if row["arm"] == runner.LIVING)
    assert living["minus transformer"] == pytest.approx([-0.1, 0.0])
    assert "| living pool |" in runner.markdown([living], {"command": "c", "commit": "d", "hardware": "e"})
