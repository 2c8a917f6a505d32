"""What `evo bench kernels` found, as a table and as data."""

import json
import math
from dataclasses import replace

import pytest

from evo.bench.kernels_table import HEADING, Note, Report, Row
from evo.bench.kernels_timing import Timing

ONE, TWO = Timing(1.0, 0.5, 1.5), Timing(2.0, 1.5, 2.5)
ONE_CELL, TWO_CELL = "1.000 (0.500-1.500)", "2.000 (1.500-2.500)"
ONE_DATA = {"median": 1.0, "low": 0.5, "high": 1.5}
TWO_DATA = {"median": 2.0, "low": 1.5, "high": 2.5}
ROW = Row("product", "theirs", 0.00123, (ONE, ONE), (TWO, None), "f+b: ValueError: no backward")
MISSING = {"ours_ms": None, "peer_ms": None, "ratio": None}


def test_a_row_tells_the_peers_time_over_ours():
    """Above 1 is in our favour; without one of the times there is no ratio."""
    assert ROW.cells() == ["product", "theirs", "1.2e-03", ONE_CELL, TWO_CELL, "2.00x", ONE_CELL, "-", "-", ROW.note]
    assert replace(ROW, ours=(None, None), theirs=(TWO, TWO)).cells()[3:9] == ["-", TWO_CELL, "-"] * 2
    assert len(ROW.cells()) == len(HEADING)


def test_a_row_as_data():
    """Numbers as they were measured; what was not is null."""
    assert ROW.to_data() == {
        "name": "product",
        "peer": "theirs",
        "error": 0.00123,
        "forward": {"ours_ms": ONE_DATA, "peer_ms": TWO_DATA, "ratio": 2.0},
        "forward_backward": {"ours_ms": ONE_DATA, "peer_ms": None, "ratio": None},
        "note": "f+b: ValueError: no backward",
    }


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_an_error_that_is_no_number_is_null(error: float):
    """JSON has neither of them."""
    data = Row("product", "theirs", error, (None, None), (None, None), "wrong: not timed").to_data()
    assert (data["error"], data["forward"], data["forward_backward"]) == (None, MISSING, MISSING)
    json.dumps(data, allow_nan=False)


def test_a_report_is_a_table_with_notes_below():
    """Rows first, in their order, then a paragraph a note; as data the notes are their numbers."""
    report = Report([ROW], [Note("probe", "Probe: 5%.", {"alone_ms": ONE, "added_ratio": 0.05})])
    heading, _, row, empty, note = report.to_markdown().split("\n")
    assert heading == f"| {' | '.join(HEADING)} |"
    assert row == f"| {' | '.join(ROW.cells())} |"
    assert (empty, note) == ("", "Probe: 5%.")
    notes = [{"name": "probe", "alone_ms": ONE_DATA, "added_ratio": 0.05}]
    assert report.to_data() == {"rows": [ROW.to_data()], "notes": notes}
