"""What long commands show while they run."""

import io

import pytest
from rich.console import Console
from rich.live import Live

from evo.cli.watching import SearchTable, fitting, headings
from evo.tasks.bytes.spec import BytesSpec

ROW = ("12", "100.0%", "123.456", "0.8980", "2.9183", "0.1000", "17", "3")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_numbers_are_whole_on_a_narrow_terminal(width: int):
    """Columns are left out, never cut: the score stays longest."""
    table = SearchTable(8, 16, BytesSpec.primary)
    out = io.StringIO()
    table.console = Console(file=out, force_terminal=True, width=width, color_system=None)
    table.live = Live(console=table.console, auto_refresh=False)
    table.rows.append(ROW)
    with table:
        table._refresh()
    printed = out.getvalue()
    assert "…" not in printed
    assert "2.9183" in printed
    assert ("0.1000" in printed) == (width >= 80)


def test_all_columns_are_shown_where_there_is_room():
    """A wide terminal loses nothing."""
    widths = [width for _, width in headings(BytesSpec.primary)]
    assert fitting(widths, 200) == list(range(len(ROW)))
    assert fitting(widths, 1) == [4]
