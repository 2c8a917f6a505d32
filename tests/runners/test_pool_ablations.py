"""`runners/pool_ablations.py`: every arm is a sound document of equal size and budget, and gaps are paired."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from evo.compiler.build import build
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


@pytest.fixture
def hypernetwork(install: Callable[[Mapping[str, str]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner's own package of kinds, found as Python finds it."""
    monkeypatch.syspath_prepend(FILE.parent / "kinds")
    (found,) = importlib.metadata.distribution("hypernetwork").entry_points.select(group="evo.kinds")
    install({found.name: found.value})


@pytest.mark.usefixtures("hypernetwork")
def test_generated_heads_are_heads(runner: ModuleType) -> None:
    """Attention with the weights that the hypernetwork makes computes the same."""
    args = runner.parsed(["--width", "16", "--slots", "4", "--layers", "1", "--context", "12"])
    made = build(resolve(from_data(runner.document("hypernetwork", 0, args, None)).document.organism), 0).double()
    plain = build(resolve(from_data(runner.document("transformer", 0, args, None)).document.organism), 0).double()
    weights = dict(made.named_parameters())
    (name,) = (name for name in weights if name.endswith("mixer.heads"))
    z_HE, prefix = weights[name].detach(), name.removesuffix("heads")
    for path, parameter in plain.named_parameters():
        templates = weights[path].detach()
        if path.startswith(prefix):
            axis = 1 if path == f"{prefix}o" else 0
            parts_E = torch.stack(templates.chunk(len(z_HE), axis))
            templates = torch.cat(list(torch.einsum("he,eij->hij", z_HE, parts_E)), axis)
        parameter.data.copy_(templates)
    tokens_BT = torch.arange(24).view(2, 12) % 7
    torch.testing.assert_close(made(tokens_BT), plain(tokens_BT), rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("hypernetwork")
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


def test_no_kind_for_comparison_is_in_searches_of_other_runners() -> None:
    """A runner's folder is the first on its path, and what is installed there takes part in every search."""
    assert list(importlib.metadata.distributions(path=[str(FILE.parent)])) == []
