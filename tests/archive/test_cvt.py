"""The CVT archive: the same as ribs where both apply, annealed where ribs has nothing, plain data at rest."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo.archive.cvt import CVTArchive
from evo.archive.rules import ELITIST, Annealed
from evo.base.streams import Stream

RibsArchive = pytest.importorskip("ribs.archives").CVTArchive

GRID = np.array([[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8], [0.5, 0.5]])
RIBS_STATUS = {"rejected": 0, "improved": 1, "new": 2}

# Few distinct values make ties, duplicates and equidistant measures common; some measures lie far outside the bounds.
SCORES = st.sampled_from([-2.0, -1.0, 0.0, 0.25, 1.0, 1.0, 3.5]) | st.floats(-1e6, 1e6)
POINTS = st.tuples(*[st.sampled_from([-5.0, 0.0, 0.2, 0.35, 0.5, 0.8, 1.0, 7.0]) | st.floats(-2, 3)] * 2)
BATCHES = st.lists(st.lists(st.tuples(SCORES, POINTS), min_size=1, max_size=12), max_size=6)


def filled(batches: list) -> CVTArchive:
    """An archive over GRID to which batches of (score, point) were added; ids count up."""
    archive, count = CVTArchive(GRID, offset=-10.0), 0
    for batch in batches:
        ids = list(range(count, count + len(batch)))
        archive.add(ids, [score for score, _ in batch], [point for _, point in batch])
        count += len(batch)
    return archive


@settings(max_examples=60, deadline=None)
@given(BATCHES)
def test_same_as_ribs(batches: list) -> None:
    """Same centroids and solutions give ribs' cells, statuses, values, elites, coverage, QD score and best."""
    ours = CVTArchive(GRID, offset=-10.0)
    theirs = RibsArchive(solution_dim=1, centroids=GRID, ranges=[(0, 1), (0, 1)], qd_score_offset=-10.0)
    count = 0
    for batch in batches:
        ids = list(range(count, count + len(batch)))
        scores, points = [score for score, _ in batch], [point for _, point in batch]
        info = theirs.add(np.array(ids)[:, None], scores, points)
        placements = ours.add(ids, scores, points)
        assert [p.cell for p in placements] == theirs.index_of(points).tolist()
        assert [RIBS_STATUS[p.status] for p in placements] == info["status"].tolist()
        np.testing.assert_array_equal([p.value for p in placements], info["value"])
        count += len(batch)
    assert_same(ours, theirs)


def assert_same(ours: CVTArchive, theirs: Any) -> None:
    """Elites, coverage, QD score, mean and best of both archives agree."""
    found, expected = ours.statistics(), theirs.stats
    data = theirs.data(return_type="dict")
    assert isinstance(data, dict)
    elites = {
        int(cell): (int(solution[0]), float(score), tuple(point.tolist()))
        for cell, solution, score, point in zip(
            data["index"], data["solution"], data["objective"], data["measures"], strict=True
        )
    }
    assert {e.cell: (e.id, e.objective, e.measures) for e in ours.elites()} == elites
    assert (found.elites, found.coverage) == (expected.num_elites, expected.coverage)
    assert found.qd_score == pytest.approx(expected.qd_score, rel=1e-9, abs=1e-6)
    assert found.objective_max == expected.obj_max
    if found.objective_mean is not None:
        assert found.objective_mean == pytest.approx(expected.obj_mean, rel=1e-9, abs=1e-6)
        assert found.objective_argmax == int(theirs.best_elite["solution"][0])


def test_same_as_ribs_at_size() -> None:
    """Twenty batches of 500 candidates over 300 cells in five measures give ribs' archive."""
    rng = np.random.default_rng(5)
    cells = rng.random((300, 5))
    ours, count = CVTArchive(cells), 0
    theirs = RibsArchive(solution_dim=1, centroids=cells, ranges=[(0, 1)] * 5)
    for _ in range(20):
        scores, points = np.round(rng.normal(size=500), 1), rng.normal(0.5, 0.5, size=(500, 5))
        ids = list(range(count, count + 500))
        theirs.add(np.array(ids)[:, None], scores, points)
        ours.add(ids, scores, points)
        count += 500
    assert_same(ours, theirs)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["objective", "measures"])
def test_non_finite_numbers_raise_as_in_ribs(bad: float, where: str) -> None:
    """A NaN or infinite objective or measure raises ValueError, names its place, and nothing of the batch enters."""
    scores, points = [1.0, 2.0], [[0.1, 0.1], [0.9, 0.9]]
    if where == "objective":
        scores[1] = bad
    else:
        points[1][0] = bad
    with pytest.raises(ValueError, match="must be finite"):
        RibsArchive(solution_dim=1, centroids=GRID, ranges=[(0, 1), (0, 1)]).add([[0], [1]], scores, points)
    archive = CVTArchive(GRID)
    with pytest.raises(ValueError, match=r"must be finite: \w+\[1"):
        archive.add(["a", "b"], scores, points)
    assert len(archive) == 0


def test_wrong_shapes_are_named() -> None:
    """Lengths that differ, other numbers of measures and bad centroids raise ValueError and place nothing."""
    archive = CVTArchive(GRID)
    with pytest.raises(ValueError, match="objectives of shape"):
        archive.add(["a"], [1.0, 2.0], [[0.1, 0.1]])
    with pytest.raises(ValueError, match="rows of measures"):
        archive.add(["a"], [1.0], [[0.1, 0.1], [0.2, 0.2]])
    with pytest.raises(ValueError, match=r"\(batch, 2\)"):
        archive.add(["a"], [1.0], [[0.1, 0.1, 0.1]])
    with pytest.raises(ValueError, match="centroids"):
        CVTArchive(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="offset"):
        CVTArchive(GRID, offset=math.nan)
    assert len(archive) == 0


def test_empty_batches_and_empty_archives() -> None:
    """An empty batch places nothing; an empty archive has statistics and refuses to select."""
    archive = CVTArchive(GRID)
    assert archive.add([], [], []) == ()
    assert archive.statistics().objective_argmax is None
    assert archive.statistics().coverage == 0.0
    with pytest.raises(IndexError, match="empty"):
        archive.select(1, Stream(0))


def test_a_batch_keeps_the_first_of_the_best() -> None:
    """Of several candidates for one cell the best enters, the first among equals, and placements tell who holds it."""
    archive = CVTArchive(GRID)
    archive.add(["old"], [0.5], [[0.1, 0.1]])
    placements = archive.add(["a", "b", "c", "d"], [0.7, 0.9, 0.9, 0.1], [[0.1, 0.1]] * 4)
    assert [p.status for p in placements] == ["improved", "improved", "improved", "rejected"]
    assert [p.is_elite for p in placements] == [False, True, False, False]
    assert [p.displaced for p in placements] == [None, "old", None, None]
    assert [p.deficit for p in placements] == pytest.approx([0.0, 0.0, 0.0, 0.4])
    elite = archive.elite(0)
    assert elite is not None
    assert elite.id == "b"
    assert archive.elite(3) is None


def test_annealing_lets_the_worse_in() -> None:
    """A worse variant enters where its number is below exp(-deficit / T), and not where it is above."""
    probability = math.exp(-0.2 / 0.5)
    for uniform, status in [(probability - 1e-9, "accepted"), (probability + 1e-9, "rejected")]:
        archive = CVTArchive(GRID)
        archive.add(["old"], [1.0], [[0.1, 0.1]])
        (placement,) = archive.add(["new"], [0.8], [[0.1, 0.1]], Annealed(0.5, (uniform,)))
        assert placement.status == status
        assert placement.deficit == pytest.approx(0.2)
        assert placement.is_elite == (status == "accepted")


def test_the_best_is_remembered() -> None:
    """The best that ever entered stays the best after annealing let something worse replace it."""
    archive = CVTArchive(GRID)
    archive.add(["old"], [1.0], [[0.1, 0.1]])
    archive.add(["new"], [0.8], [[0.1, 0.1]], Annealed(100.0, (0.0,)))
    assert [e.id for e in archive.elites()] == ["new"]
    assert archive.statistics().objective_argmax == "old"
    assert archive.statistics().objective_max == 1.0


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.integers(0, 2**32))
def test_zero_temperature_is_elitist(batches: list, seed: int) -> None:
    """At zero temperature the annealed rule gives exactly the elitist archive."""
    cold, count = CVTArchive(GRID, offset=-10.0), 0
    for batch in batches:
        ids = list(range(count, count + len(batch)))
        rule = Annealed.drawn(0.0, len(batch), Stream(seed).child(count))
        cold.add(ids, [score for score, _ in batch], [point for _, point in batch], rule)
        count += len(batch)
    assert cold.to_data() == filled(batches).to_data()


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.floats(0.01, 10))
def test_a_result_archive_only_improves(batches: list, temperature: float) -> None:
    """In the elitist archive no cell ever gets worse and no cell empties, and it is never below the annealed one."""
    result, working = CVTArchive(GRID, offset=-1e7), CVTArchive(GRID, offset=-1e7)
    for index, batch in enumerate(batches):
        before = {e.cell: e.objective for e in result.elites()}
        ids, scores, points = list(range(len(batch))), [s for s, _ in batch], [p for _, p in batch]
        result.add(ids, scores, points, ELITIST)
        working.add(ids, scores, points, Annealed.drawn(temperature, len(batch), Stream(0).child(index)))
        after = {e.cell: e.objective for e in result.elites()}
        assert all(after[cell] >= score for cell, score in before.items())
    assert all(after >= now for after, now in zip(_scores(result), _scores(working), strict=True))


def _scores(archive: CVTArchive) -> list[float]:
    return [elite.objective for elite in archive.elites()]


def test_acceptance_frequency() -> None:
    """Over many draws the worse enters as often as the formula says."""
    rule = Annealed.drawn(0.5, 20_000, Stream(1))
    accepted = rule.accepts(np.full(20_000, 0.7), np.full(20_000, 1.0))
    assert accepted.mean() == pytest.approx(math.exp(-0.3 / 0.5), abs=0.015)


def test_a_rule_needs_a_number_for_each() -> None:
    """Too few uniform numbers raise ValueError before anything is placed."""
    archive = CVTArchive(GRID)
    with pytest.raises(ValueError, match="uniform numbers"):
        archive.add(["a", "b"], [1.0, 2.0], [[0.1, 0.1]] * 2, Annealed(0.5, (0.1,)))
    assert len(archive) == 0


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_thresholds_are_those_of_ribs(batches: list, rate: float) -> None:
    """With a learning rate, elites and thresholds are those of ribs' archive with that rate, which begins at 0."""
    ours = CVTArchive(GRID, learning_rate=rate)
    theirs = RibsArchive(solution_dim=1, centroids=GRID, ranges=[(0, 1), (0, 1)], learning_rate=rate, threshold_min=0.0)
    count = 0
    for batch in batches:
        ids = list(range(count, count + len(batch)))
        scores, points = [score for score, _ in batch], [point for _, point in batch]
        theirs.add(np.array(ids)[:, None], scores, points)
        ours.add(ids, scores, points)
        count += len(batch)
    data = theirs.data()
    assert [elite.cell for elite in ours.elites()] == sorted(data["index"].tolist())
    held = {elite.cell: elite.id for elite in ours.elites()}
    assert held == {int(cell): int(name) for cell, name in zip(data["index"], data["solution"][:, 0], strict=True)}
    for cell, threshold in zip(data["index"].tolist(), data["threshold"].tolist(), strict=True):
        assert ours.threshold(cell) == pytest.approx(threshold, rel=1e-9, abs=1e-9)
    again = CVTArchive.from_data(json.loads(json.dumps(ours.to_data(), allow_nan=False)))
    assert again.to_data() == ours.to_data()


@settings(max_examples=40, deadline=None)
@given(BATCHES)
def test_plain_data_round_trip(batches: list) -> None:
    """An archive survives JSON exactly: elites, best, statistics, and what it does next."""
    archive = filled(batches)
    again = CVTArchive.from_data(json.loads(json.dumps(archive.to_data(), allow_nan=False)))
    assert again.to_data() == archive.to_data()
    assert again.statistics() == archive.statistics()
    assert again.elites() == archive.elites()
    more = (["x", "y"], [0.5, 9.0], [[0.3, 0.1], [0.9, 0.9]])
    assert again.add(*more) == archive.add(*more)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"elites": [[77, "a", 1.0, [0.1, 0.1]]]},
        {"elites": [[0, "a", 1.0, [0.1]]]},
        {"elites": [[0, None, 1.0, [0.1, 0.1]]]},
        {"elites": [[0]]},
        {"elites": 5},
        {"centroids": "none"},
        {"thresholds": [0.0]},
    ],
)
def test_foreign_data_is_refused(change: dict) -> None:
    """Data of another form or version raises ValueError."""
    data = {**filled([[(1.0, (0.1, 0.1))]]).to_data(), **change}
    with pytest.raises(ValueError, match=r"."):
        CVTArchive.from_data(data)
    with pytest.raises(ValueError, match="KeyError"):
        CVTArchive.from_data({})


def test_selection_is_uniform_and_repeats() -> None:
    """Selection is uniform over elites, repeats with its stream, and ignores the order of arrival."""
    points = [[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]]
    archive, reverse = CVTArchive(GRID), CVTArchive(GRID)
    archive.add(["a", "b", "c"], [1.0, 2.0, 3.0], points)
    reverse.add(["c", "b", "a"], [3.0, 2.0, 1.0], points[::-1])
    chosen = archive.select(6_000, Stream(2))
    assert chosen == reverse.select(6_000, Stream(2))
    shares = [sum(e.id == name for e in chosen) / 6_000 for name in "abc"]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)


def test_a_cell_that_was_emptied_is_open_to_all_again() -> None:
    """A score that was withdrawn (its candidate was judged again) bars nobody from the cell that it held."""
    archive = CVTArchive(GRID, learning_rate=1.0)
    archive.add(["lucky"], [5.0], [[0.1, 0.1]])
    cell = archive.remove("lucky")
    assert cell is not None
    archive.add(["honest"], [2.0], [[0.1, 0.1]])
    assert [elite.id for elite in archive.elites()] == ["honest"]
    assert archive.threshold(cell) == 2.0
