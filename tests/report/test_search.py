"""The report of a search: what it says follows from the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import CANDIDATES, document, made_run, summary

from evo.archive.cvt import CVTArchive
from evo.archive.rules import ELITIST
from evo.dsl.evolve import EvolveSpec
from evo.dsl.patch import diff
from evo.evolution.candidate import Candidate, candidate_id
from evo.evolution.journal import Journal, Placed
from evo.evolution.rundir import RunDirectory
from evo.evolution.settings import Settings
from evo.evolution.trial import Trial, WeightsRef
from evo.report.record import Report
from evo.report.search import elites, operator_credit, search_report, summary_lines, write_reports
from evo.tasks.bytes.spec import BytesSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of three generations; 0001/02 failed."""
    return made_run(tmp_path / "run")


@pytest.fixture
def written(folder: Path) -> Report:
    """Its report."""
    return write_reports(folder)


@pytest.fixture
def report(written: Report) -> dict[str, Any]:
    """The same as plain data."""
    return written.to_data()


def test_the_file_says_what_is_returned(folder: Path, report: dict[str, Any]) -> None:
    """`search_report.json` is plain JSON, NaN nowhere, and writing again changes nothing."""
    text = (folder / "search_report.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")) == report
    write_reports(folder)
    assert (folder / "search_report.json").read_text() == text


def test_variants_and_failures(report: dict[str, Any]) -> None:
    """Every candidate is listed with its file, cost and score, or the cause of its failure."""
    by_id = {variant["id"]: variant for variant in report["variants"]}
    assert list(by_id) == [row.id for row in CANDIDATES]
    assert by_id["0001/00"]["file"] == "gen_0001/variant_00.yaml"
    assert by_id["0001/00"]["snapshot_ratio"] == 40.0
    assert by_id["0001/00"]["curves"] == [[[1, 5.0], [2, 4.5]]]
    assert by_id["0001/02"]["curves"] == []
    assert by_id["0001/02"]["cause"] == "diverged"
    assert "bits_per_byte" not in by_id["0001/02"]
    assert report["failures"] == {"diverged": 1}
    assert report["snapshots"] == {"median_ratio": 40.0, "median_increase": 0.01, "worst_increase": 0.01}
    assert report["trained"]["tokens"] == 4 * 2 * 2 * 16
    assert not {"seconds", "occasion"} & set(report), "equal runs leave equal files"


def test_the_line_of_the_best(report: dict[str, Any]) -> None:
    """From the seed to the best along first parents, each with its patch; and one patch for the whole way."""
    assert [row["id"] for row in report["lineage"]] == ["0000/00", "0001/00", "0002/00"]
    assert [row["patch"] for row in report["lineage"]] == ["", str(diff(document(16), document(32))),
                                                           str(diff(document(32), document(80)))]  # fmt: skip
    assert report["diff_from_seed"] == str(diff(document(16), document(80)))


def test_the_verdict_is_there(written: Report, report: dict[str, Any]) -> None:
    """What the journal has of the trainings from scratch is compared, in the report and in what a person reads."""
    found = written.verdict
    assert found is not None
    assert (found.winner, found.leader, found.best_seed, found.own_seed) == ("0002/00",) * 2 + ("0000/00",) * 2
    assert found.against_best.difference == pytest.approx(-0.5)
    assert report["verdict"]["against_best"]["outcome"] == "better"
    assert report["verdict"]["found"] == "0002/00"
    assert any(line.startswith("verdict: Better than the best seed by 0.5000") for line in summary_lines(written))


def test_summary_lines(written: Report) -> None:
    """The first line names the best variant and the best seed; another line the lowest bits where they differ."""
    lines = summary_lines(written)
    assert lines[0].startswith("best variant: gen_0002/variant_00.yaml, objective 0.3333, 3.0000 held-out bits")
    assert "best seed: 4.0000" in lines[0]
    assert not any(line.startswith("lowest") for line in lines)
    other = summary_lines(replace(written, best="0001/00"))
    assert "lowest bits per byte: gen_0002/variant_00.yaml, 3.0000" in other


def test_credit_of_operators(report: dict[str, Any]) -> None:
    """Children count for each of their operators once, against their first parent; failures count as failures."""
    rows = {row.pop("operator"): row for row in report["operators"]}
    widths = {name: row.pop("half_width") for name, row in rows.items()}
    assert widths == {"choice": None, "crossover": None, "number": pytest.approx(12.706 * 0.35, abs=1e-3)}
    assert rows == {
        "choice": {"children": 2, "failed": 1, "better_than_parent": 0, "mean_change": pytest.approx(0.2)},
        "crossover": {"children": 1, "failed": 0, "better_than_parent": 1, "mean_change": -0.5},
        "number": {"children": 2, "failed": 0, "better_than_parent": 1, "mean_change": pytest.approx(-0.15)},
    }
    assert operator_credit({}, {}, BytesSpec.primary) == ()


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[tuple[Journal, CVTArchive]]:
    """A journal of hundreds of placements, ties among them, and the archive that they came from."""
    journal, archive = Journal(tmp_path / "j.sqlite"), CVTArchive([[cell / 10] * 2 for cell in range(10)])
    for generation in range(3):
        rows = [Candidate(candidate_id(generation, slot), generation, slot, "h", "d") for slot in range(130)]
        ids = [row.id for row in rows]
        objectives = [((slot * 7 + generation * 13) % 11) / 11 - 3.0 for slot in range(130)]
        placed = archive.add(ids, objectives, [[(slot % 10) / 10] * 2 for slot in range(130)], ELITIST)
        journal.add_candidates(rows)
        journal.add_trials(generation, [Trial(row, 0, 1) for row in rows])
        rows_placed = [Placed(WeightsRef(str(p.id)), "result", p.cell, p.status, p.value, p.is_elite) for p in placed]
        journal.add_generation(summary(generation, "x"), {}, rows_placed)
    yield journal, archive
    journal.close()


def test_elites_are_the_archives(crowded: tuple[Journal, CVTArchive]) -> None:
    """The elites read from the journal are those that the archive holds: ties, slots past 99 and objectives below -1
    included."""
    journal, archive = crowded
    assert elites(journal) == {elite.cell: elite.id for elite in archive.elites()}
    assert len(archive.elites()) == 10


def test_a_run_without_generations_has_a_report(tmp_path: Path) -> None:
    """A run that stopped before its first generation ended is reported without a best variant."""
    directory = RunDirectory(tmp_path)
    settings = Settings((CANDIDATES[0].document,), ".", EvolveSpec())
    directory.create(settings, {})
    journal = Journal(directory.journal_file)
    found = search_report(directory, settings, journal)
    journal.close()
    assert (found.best, found.elites, found.lineage, found.snapshots) == (None, {}, (), None)
    assert summary_lines(found) == [f"report: {tmp_path}/report.html"]
