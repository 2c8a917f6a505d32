"""`evo profile` and `evo slo`: what a pass costs, and whether objectives were kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DOCUMENT = """
evo: 1
organism: {width: 16, context: 16, stages: [{name: s, mix: {kind: pool, slots: 2}}]}
train: {batch: 2}
"""
LINES = [
    {"step": 1, "loss": 5.0, "tokens_per_second": 10.0},
    {"step": 2, "loss": None, "tokens_per_second": 30.0},
    {"step": 2, "events": [{"step": 2, "event": "look", "pool_size": 3}]},
    {"step": 3, "loss": 3.0, "tokens_per_second": 30.0},
    {"step": 3, "held_out": {"bits_per_byte": 4.0}},
]


def measured(folder: Path, objectives: str) -> tuple[str, str]:
    """A folder with metrics, and a file of objectives."""
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES) + '{"step": 4, "lo')
    (folder / "slo.yaml").write_text(f"objectives: {objectives}\n")
    return str(folder), str(folder / "slo.yaml")


@pytest.mark.slow
def test_a_profile_has_times_memory_and_products(evo, tmp_path: Path) -> None:
    """The keys of `profile_model`, and the shape and device of what was timed."""
    (tmp_path / "a.yaml").write_text(DOCUMENT)
    outcome = evo("profile", tmp_path / "a.yaml", "--iterations", 2, "--device", "cpu", "--json")
    found = json.loads(outcome.out)
    assert (outcome.code, found["batch"], found["tokens"], found["device"]) == (0, 2, 16, "cpu")
    assert found["estimated_flops"] > 0
    assert "GFLOPs" in evo("profile", tmp_path / "a.yaml", "--iterations", 1, "--device", "cpu").out


@pytest.mark.parametrize(
    ("objective", "code", "lines", "misses"),
    [
        ("{metric: tokens_per_second, at_least: 20, target: 0.6}", 0, 3, 1),
        ("{metric: tokens_per_second, at_least: 20}", 1, 3, 1),
        ("{metric: loss, at_most: 6, target: 0.5}", 0, 3, 1),
        ("{metric: held_out.bits_per_byte, at_least: 1, at_most: 4}", 0, 1, 0),
        ("{metric: look.pool_size, at_least: 4}", 1, 1, 1),
        ("{metric: nothing, at_least: 4}", 1, 0, 0),
    ],
)
def test_objectives_have_error_budgets(evo, tmp_path: Path, objective: str, code: int, lines: int, misses: int) -> None:
    """Lines that miss are counted against what the target allows; null misses; what was never measured is not kept."""
    outcome = evo("slo", *measured(tmp_path, f"[{objective}]"), "--json")
    (row,) = json.loads(outcome.out)["objectives"]
    assert (outcome.code, row["lines"], row["misses"], row["kept"]) == (code, lines, misses, code == 0)
    assert evo("slo", *measured(tmp_path, f"[{objective}]")).out.rstrip().endswith("ok") == (code == 0)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("[]", ":1:13: EVO203 'objectives' takes at least 1 of them, found 0"),
        ("[{metric: loss}]", ": the objective of 'loss' has no limit"),
        ("[{metric: loss, at_mots: 3}]", ":1:29: EVO200 unknown key 'at_mots' in objective"),
        ("[{metric: loss, at_most: x}]", ":1:38: EVO202 'at_most' should be a valid number, found 'x'"),
        ("3", ":1:13: EVO202 expected a list here, found 3"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(evo, tmp_path: Path, wrong: str, told: str) -> None:
    """With a diagnostic that names the file and the place, as for a document."""
    outcome = evo("slo", *measured(tmp_path, wrong))
    assert outcome.code == 1
    assert f"slo.yaml{told}" in outcome.err


def test_damaged_lines_count_for_none(evo, tmp_path: Path):
    """Bytes that are no text, lists, and events of another kind: the lines that are whole are judged."""
    folder, file = measured(tmp_path, "[{metric: loss, at_least: 1, target: 0.5}]")
    before = evo("slo", folder, file, "--json").json["objectives"]
    with (tmp_path / "metrics.jsonl").open("ab") as metrics:
        metrics.write(b'\n\xff{\n[1]\n5\n{"step": 1, "events": 5}\n{"step": 1, "events": [5, {}]}\n{"loss": "x"}\n')
    assert evo("slo", folder, file, "--json").json["objectives"] == before
