"""evo bench train, step, kernels and probe, each as its user sees it; what they measure is told to them."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from small_cases import case

from commands import Evo
from evo.bench import kernels, kernels_timing, probe, step, training
from evo.bench.kernels_timing import Timing
from evo.bench.step import StepReport, StepRow
from evo.bench.step_kernels import Family

COMMANDS = ("train", "step", "kernels", "probe")
ON_CUDA = ("step", "kernels")
TRAINED = [training.Row("plain torch GPT", 1_858_944, 4832.4, 1.0, 0.9, 1.1, 7012.0, 1.45)]
PROBED = [probe.Row("small", 80, 12.4, 0.193, 0.258, 3.6)]
STEPPED = StepReport([StepRow("plain", 3, 3.89, 3.0, 4.0, 1.0, "")], {"defaults": [Family("all", 4.0, 9.0)]})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is said to have a CUDA device, whatever is timed takes two milliseconds."""
    monkeypatch.setattr("evo.training.device.choose_device", torch.device)
    monkeypatch.setattr(training, "measure", lambda rounds: TRAINED)
    monkeypatch.setattr(probe, "measure", lambda device, rounds: PROBED)
    monkeypatch.setattr(step, "write", lambda path, rounds: STEPPED)
    monkeypatch.setattr(kernels, "compile_all", lambda names, patience_s: [] if patience_s is None else names[1:])
    monkeypatch.setattr(kernels, "cases", lambda: [case(name="product (1)"), case(name="product (2)")])
    monkeypatch.setattr(kernels, "notes", lambda: ())
    monkeypatch.setattr(kernels_timing, "timing", lambda step: Timing(2.0, 1.0, 3.0))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_has_help_and_json(evo, name: str):
    """Programs may read all of them."""
    outcome = evo("bench", name, "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out


@pytest.mark.parametrize("name", ON_CUDA)
def test_without_a_cuda_device_there_is_a_diagnostic(evo, monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path):
    """As text on stderr or as JSON on stdout, and nothing is written."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "out"
    outcome = evo("bench", name, "--out", out)
    assert (outcome.code, outcome.out) == (1, "")
    assert "EVO510 no device 'cuda' here" in outcome.err
    as_json = evo("bench", name, "--out", out, "--json")
    assert as_json.code == 1
    assert [fault["code"] for fault in as_json.json["error"]] == ["EVO510"]
    assert not out.exists()


@pytest.mark.usefixtures("measured")
def test_bench_train_json(evo, tmp_path: Path):
    """The rows as they were measured; the table is written as without it."""
    path, same = tmp_path / "train.md", tmp_path / "same.md"
    found = evo("bench", "train", "--json", "--out", path).json
    assert found == {"command": "bench train", "format": 1, "rows": [asdict(row) for row in TRAINED]}
    printed = evo("bench", "train", "--out", same)
    assert printed.out.splitlines()[1].split("  ")[:2] == ["plain torch GPT", " 1,858,944"]
    assert "| plain torch GPT | 1,858,944 | 4,832 | 1.00 | 0.90 | 1.10 |" in same.read_text()
    assert path.read_text() == same.read_text()


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_table_that_cannot_be_written_is_said_before_anything_is_timed(
    evo, monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path
):
    """A folder is no file; minutes of measuring are not lost to that."""

    def refuse(*args: object) -> None:
        raise AssertionError(args)

    for module, function in ((training, "measure"), (step, "write"), (kernels, "run")):
        monkeypatch.setattr(module, function, refuse)
    outcome = evo("bench", name, "--out", tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert "EVO004" in outcome.err


@pytest.mark.usefixtures("measured")
def test_bench_step_json(evo):
    """The rows as they were measured, and a step's kernels by shape."""
    kernels = {"defaults": [{"name": "all", "launches": 4.0, "spent_us": 9.0}]}
    rows = [asdict(row) for row in STEPPED.rows]
    assert evo("bench", "step", "--json").json == {
        "command": "bench step",
        "format": 1,
        "rows": rows,
        "kernels": kernels,
    }
    assert "3.89" in evo("bench", "step").out


@pytest.mark.usefixtures("measured")
def test_bench_probe(evo, tmp_path: Path):
    """The share of each candidate, as text, as JSON and in a file; another device is a wrong command line."""
    path = tmp_path / "probe.md"
    assert evo("bench", "probe", "--json", "--out", path).json["rows"] == [asdict(row) for row in PROBED]
    assert "| small | 80 | 12.40 | 193 | 258 | 3.6 |" in path.read_text()
    assert "3.6" in evo("bench", "probe").out
    assert evo("bench", "probe", "--device", "abacus").code == 2


def test_the_probe_is_measured_beside_a_whole_candidate(monkeypatch: pytest.MonkeyPatch):
    """A candidate of two steps is evaluated and probed; the share is that of both probes."""
    monkeypatch.setattr(
        probe, "SHAPES", {"cpu": {"tiny": ("16, context: 32", "{kind: attention, heads: 2}", "2, steps: 2")}}
    )
    [row] = probe.measure("cpu", rounds=1)
    assert (row.name, row.steps) == ("tiny", 2)
    assert row.share == pytest.approx(100 * (row.before + row.after) / row.candidate)
    assert 0 < row.before + row.after < row.candidate


@pytest.mark.usefixtures("measured")
def test_bench_kernels_json(evo, tmp_path: Path):
    """One object on stdout, progress on stderr, the table in its file; only the cases asked for."""
    outcome = evo("bench", "kernels", "--json", "--out", tmp_path / "kernels.md")
    two = {"median": 2.0, "low": 1.0, "high": 3.0}
    assert list(outcome.json) == ["command", "format", "rows", "notes"]
    first, second = outcome.json["rows"]
    assert (first["name"], second["name"]) == ("product (1)", "product (2)")
    assert first["forward"] == {"ours_ms": two, "peer_ms": two, "ratio": 1.0}
    assert 0 < first["error"] < 1e-6
    assert [line.partition(" | ")[0] for line in outcome.err.splitlines()] == ["product (1)", "product (2)"]
    assert "| product (2) | theirs |" in (tmp_path / "kernels.md").read_text()
    [row] = evo("bench", "kernels", "--json", "--out", tmp_path / "kernels.md", "--only", "product (2").json["rows"]
    assert row["name"] == "product (2)"
    assert "| product (1) | theirs |" in evo("bench", "kernels", "--out", tmp_path / "kernels.md").out


@pytest.mark.usefixtures("measured")
def test_bench_kernels_refuses_cases_that_are_not_there(evo, tmp_path: Path):
    """A name that begins no case is a wrong command line, and nothing is measured."""
    outcome = evo("bench", "kernels", "--out", tmp_path / "kernels.md", "--only", "product", "--only", "prodct")
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: evo bench kernels" in outcome.err
    assert "no case begins with 'prodct'; cases: product (1), product (2)" in " ".join(outcome.err.split())
    assert not list(tmp_path.iterdir())


def test_the_archive_is_filled_as_ribs_fills_it(monkeypatch: pytest.MonkeyPatch, evo: Evo, tmp_path: Path) -> None:
    """Both archives end with the same elites, in small; the table says what each call took."""
    monkeypatch.setattr("evo.bench.archive.CELLS", (20, 20_000))
    monkeypatch.setattr("evo.bench.archive.BATCHES", {"single": (1, 5), "batch": (1_000, 2)})
    monkeypatch.setattr("evo.bench.archive.centroids", lambda cells, bounds, stream: [[0.5] * 5])
    outcome = evo("bench", "archive", "--rounds", 1, "--out", tmp_path / "table.md")
    assert outcome.code == 0
    assert "times as fast" in (tmp_path / "table.md").read_text()
    assert evo("bench", "archive", "--rounds", 1, "--json").json["rows"][0]["what"] == "single"
