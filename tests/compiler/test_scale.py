"""Scaling: the same shape at another size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from commands import Evo
from evo.compiler.check import check, require_valid
from evo.compiler.resolve import resolve
from evo.compiler.scale import CannotScaleError, Way, scaled, widths
from evo.dsl.canonical import to_yaml
from evo.dsl.document import Document, from_data, load, parse
from evo.dsl.rates import MaximalUpdateRates

ROOT = Path(__file__).parents[2]
ATTENTION = {"kind": "attention", "heads": 2}
STAGES: list[Any] = [
    {"name": "low", "repeat": 2, "mix": [{"kind": "attention", "heads": 4, "kv_heads": 2}, {"kind": "convolution"}]},
    {"name": "shared", "repeat": 2, "share": True, "mix": {"kind": "attention", "heads": 4, "kv_heads": 1}},
]


def seed() -> Document:
    """A hybrid of 64 channels with a list that cycles and a stage that cannot be longer."""
    return require_valid(from_data({"evo": 1, "organism": {"width": 64, "context": 64, "stages": STAGES}}))


def test_widths_go_together() -> None:
    """Heads go by the width, which stays a multiple of eight; one group of keys stays one."""
    low, shared = (("organism", "stages", place, "mix", 0) for place in (0, 1))
    found = widths(seed(), 1.45)
    assert found["organism", "width"] == 96
    assert {path[-1]: value for path, value in found.items() if path[:5] == low} == {"heads": 6, "kv_heads": 3}
    assert {path[-1]: value for path, value in found.items() if path[:5] == shared} == {"heads": 6}


@pytest.mark.parametrize("target", [1e6, pytest.param(1e9, marks=pytest.mark.slow)])
def test_it_has_the_size_and_keeps_the_shape(target: float) -> None:
    """Within a tenth of the size; heads keep their width and their groups, lists cycle on, and what is shared stays."""
    small, large = seed(), scaled(seed(), target)
    assert resolve(large.organism).parameters == pytest.approx(target, rel=0.1)
    assert check(parse(to_yaml(large))) == []
    growth = large.organism.width / small.organism.width
    low, shared = large.organism.stages
    assert low.mix[0].heads == 4 * growth == 2 * low.mix[0].kv_heads  # type: ignore[attr-defined]
    assert shared.mix[0].kv_heads == 1  # type: ignore[attr-defined]
    assert shared.depth == 2  # type: ignore[attr-defined]
    assert 0.4 < low.depth / 2 / growth < 2.2  # type: ignore[attr-defined]
    assert large.train.rates == MaximalUpdateRates(base=64)


def test_rates_that_are_written_are_kept_and_sizes_out_of_reach_refused() -> None:
    """A document with rates of its own keeps their base; fewer parameters than its depth needs cannot be had."""
    small = seed()
    large = scaled(scaled(small, 1e6), 1e7)
    assert large.train.rates == MaximalUpdateRates(base=64)
    with pytest.raises(CannotScaleError, match="about 50 parameters") as caught:
        scaled(small, 50)
    (help,) = [fault.help or "" for fault in caught.value.diagnostics]
    nearest = int(re.sub(r"\D", "", help.partition(", the nearest size")[0]))
    assert resolve(scaled(small, nearest).organism).parameters == nearest


WIRED: list[Any] = [
    {"name": "low", "repeat": 2, "mix": {"kind": "attention", "heads": 4}},
    {"name": "side", "from": "embedding", "mix": {"kind": "convolution"}},
    {"name": "low_2", "from": ["low", "side"], "mix": {"kind": "attention", "heads": 4}, "kv_add": "embedding"},
]


def test_stacking_repeats_the_graph_after_itself() -> None:
    """Every copy is wired as the first, and reads the end of the one before where the first reads the embedding; names
    stay apart, and depth is a whole number of graphs."""
    large = scaled(require_valid(from_data({"evo": 1, "organism": {"width": 64, "stages": WIRED}})), 1e6, "stacking")
    assert resolve(large.organism).parameters == pytest.approx(1e6, rel=0.2)
    assert check(parse(to_yaml(large))) == []
    stages: list[Any] = list(large.organism.stages)
    assert len(stages) % 3 == 0
    assert len({stage.name for stage in stages}) == len(stages) > 3
    assert [stage.repeat for stage in stages] == [2, 1, 1] * (len(stages) // 3)
    assert [stages[2].name, stages[3].name, stages[5].name] == ["low_2", "low_3", "low_2_2"]
    assert stages[3].from_ is None
    assert stages[4].from_ == ("low_2",) == stages[5].kv_add
    assert stages[5].from_ == ("low_3", stages[4].name)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["stretching", "stacking"])
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_scale(path: Path, way: Way) -> None:
    """Every example, whatever its kinds, at four times its size."""
    document = load(path).document
    target = 4 * resolve(document.organism).parameters
    assert resolve(scaled(document, target, way).organism).parameters == pytest.approx(target, rel=0.25)


def test_the_command_writes_it(evo: Evo, tmp_path: Path) -> None:
    """Printed, or written where it is wanted; what is no size, or out of reach, is a fault of the command line or the
    input."""
    own = tmp_path / "own.yaml"
    own.write_text(to_yaml(seed()))
    shown = evo("scale", own, "--params", "1M", "--json").json
    assert shown["parameters"] == resolve(parse(shown["document"]).document.organism).parameters
    assert shown["parameters"] == pytest.approx(1e6, rel=0.1)
    assert evo("scale", own, "--params", "1M").out == shown["document"]
    stacked = evo("scale", own, "--params", "1M", "--by", "stacking")
    assert stacked.code == 0
    assert "- name: low_2" in stacked.out
    assert evo("scale", own, "--params", "1M", "--out", tmp_path / "large.yaml").code == 0
    assert to_yaml(load(tmp_path / "large.yaml").document) == shown["document"]
    assert evo("scale", own, "--params", "lots").code == 2
    assert evo("scale", own, "--params", "50").code == 1


@pytest.mark.parametrize(
    ("stage", "numbers"),
    [
        ({"kind": "patches", "of": STAGES[0], "width": 24}, {"width": 48, "heads": 8, "kv_heads": 4}),
        ({"mix": {"kind": "memory", "heads": 2, "dim": 8}}, {"heads": 4}),
        ({"mix": {"kind": "recurrence", "heads": 4, "key_heads": 2}}, {"heads": 8, "key_heads": 4}),
        ({"kind": "latent", "heads": 4, "kv_heads": 2}, {"heads": 8, "kv_heads": 4}),
        ({"mix": {"formed": ATTENTION, "form": "low_rank", "rank": 4}}, {"heads": 4, "rank": 8}),
        ({"mix": {"formed": ATTENTION, "blocks": 4}}, {"heads": 4}),
    ],
    ids=["patches", "memory", "groups of keys", "a code", "a rank", "a rank that means nothing"],
)
def test_what_is_cut_from_a_stream_widens_with_it(stage: dict[str, Any], numbers: dict[str, int]) -> None:
    """Heads and their groups wherever they stand, and the stream of a stage that has its own: the result is valid."""
    small = require_valid(from_data({"evo": 1, "organism": {"width": 16, "stages": [{"name": "a", **stage}]}}))
    found = widths(small, 2.0)
    assert {path[-1]: value for path, value in found.items() if path != ("organism", "width")} == numbers
    assert check(parse(to_yaml(scaled(small, 20.0 * resolve(small.organism).parameters)))) == []


def test_sizes_at_which_nothing_stands_are_passed_over() -> None:
    """On the way down, two experts a token find no head each; the search goes on around such sizes."""
    mix = {"kind": "attention", "heads": 4, "kv_heads": 1, "head_experts": {}}
    made = {"width": 32, "context": 16, "stages": [{"name": "a", "mix": mix}]}
    small = require_valid(from_data({"evo": 1, "organism": made}))
    for factor in (0.3, 2.5, 10.0):
        target = factor * resolve(small.organism).parameters
        assert resolve(scaled(small, target).organism).parameters == pytest.approx(target, rel=1 / 3)
