"""The page at work in a browser: clicks, keys and brushes do what they say, nothing complains, nothing is cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import browser
import pytest
from browser import Browser
from made_reports import DEGENERATE, HOSTILE, failed, sample, variant

from evo.report.html import page
from evo.report.record import Report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.found() is None, reason="there is no Chromium on this machine"),
]
OPEN = "document.getElementById('variant').open"
SHOWN = "[...document.querySelectorAll('#elites ~ * [data-row]')].filter(r => !r.hidden).map(r => r.dataset.row)"


def address(folder: Path, report: Report, name: str = "report") -> str:
    """Where the page of a report stands."""
    file = folder / f"{name}.html"
    file.write_text(page(report), encoding="utf-8")
    return file.resolve().as_uri()


def choose(opened: Browser, selector: str, value: str, event: str = "change") -> None:
    """Give an input or a choice another value."""
    change = f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('{event}')) }})"
    opened.value(f"{change}(document.querySelector({json.dumps(selector)}))")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with the page of a small run."""
    with Browser() as one:
        one.open(address(tmp_path_factory.mktemp("page"), sample()))
        yield one
        assert one.complaints == []


def test_a_point_opens_its_variant_and_escape_closes_it(opened: Browser) -> None:
    """With its document, its kin, and a place in the address that can be sent; kin lead on."""
    opened.click(".plane .elite.q7")
    said = opened.value("document.getElementById('variant').textContent")
    assert opened.value(OPEN)
    for part in ("0001/00", "best objective", "name: v00", "parents 0000/00", "children 0001/01", "7.1000"):
        assert part in said
    assert opened.value("location.hash") == "#0001%2F00"
    opened.click("#variant button.id")
    assert opened.value("document.querySelector('#variant h2').textContent") == "0000/00"
    opened.key("Escape", 27)
    assert not opened.value(OPEN)
    assert opened.value("location.hash") == ""


def test_marks_are_reached_by_keys(opened: Browser) -> None:
    """A picture is one stop of Tab; arrows walk through its marks, what has the focus is said, Enter opens it."""
    assert opened.value("document.querySelectorAll('.plane [tabindex=\"0\"]').length") == 1
    opened.value("document.querySelector('.plane [tabindex=\"0\"]').focus()")
    first = opened.value("document.activeElement.dataset.id")
    opened.key("ArrowRight", 39)
    assert opened.value("document.activeElement.dataset.id") != first
    assert opened.value("document.getElementById('said').textContent").startswith(
        opened.value("document.activeElement.dataset.id")
    )
    opened.key("Enter", 13, "\r")
    assert opened.value(OPEN)
    opened.key("Escape", 27)


def test_tables_are_sorted_and_filtered(opened: Browser) -> None:
    """By a heading, up and then down; by words, and by words that may not be there."""
    rows = "[...document.querySelectorAll('#elites ~ * tbody tr')].map(r => r.dataset.row)"
    score = "#elites ~ * th:nth-child(3) button"
    opened.click(score)
    assert opened.value(rows) == ["0001/00", "0001/01", "0000/00"]
    opened.click(score)
    assert opened.value(rows) == ["0000/00", "0001/01", "0001/00"]
    assert opened.value("document.querySelector('#elites ~ * [aria-sort]').getAttribute('aria-sort')") == "descending"
    for words, left in (("crossover", ["0001/01"]), ("-crossover", ["0000/00", "0001/00"]), ("", 3)):
        choose(opened, "#elites ~ * input", words, "input")
        found = opened.value(SHOWN)
        assert (len(found) if isinstance(left, int) else found) == left


def test_a_brush_keeps_what_passes(opened: Browser) -> None:
    """By the mouse and by keys: lines are dimmed, tables filtered; all comes back."""
    kept = "document.querySelector('[data-part=parallel] [aria-live]').textContent"
    assert opened.value(kept) == "3 of 3 kept"
    opened.value("document.querySelector('svg.parallel').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = "document.querySelector('svg.parallel .handle').getBoundingClientRect()"
    x, top, bottom = opened.value(f"(b => [b.x + b.width / 2, b.top, b.bottom])({box})")
    opened.drag([x, top + 1], [x, (top + bottom) / 2])
    assert opened.value(kept) == "2 of 3 kept", "7.1 and 7.3 of 7.1 to 7.7"
    assert opened.value(SHOWN) == opened.value(f"({SHOWN}).filter(id => id !== '0000/00')")
    assert opened.value("document.querySelectorAll('svg.parallel .dim').length") == 1
    opened.click("[data-part=parallel] .controls button")
    assert opened.value(kept) == "3 of 3 kept"
    opened.value("document.querySelector('svg.parallel .handle').focus()")
    for _ in range(12):
        pressed = "new KeyboardEvent('keydown', {key: 'ArrowUp', shiftKey: true})"
        opened.value(f"document.activeElement.dispatchEvent({pressed})")
    assert opened.value(kept) == "2 of 3 kept"
    opened.key("Escape", 27)
    assert opened.value(kept) == "3 of 3 kept"


def test_the_axes_of_the_front_are_chosen(opened: Browser) -> None:
    """The best is alone in front by score and FLOPs, which all share; another axis draws another picture."""
    label = "document.querySelector('[data-part=front] svg').getAttribute('aria-label')"
    assert opened.value(label) == "3 variants by FLOPs/token and bits per byte, 1 of them on the front"
    assert opened.value(
        "(() => { const box = document.querySelector('[data-part=front] .whisker').getBBox();"
        " const frame = document.querySelector('[data-part=front] svg').viewBox.baseVal;"
        " return box.height > 0 && box.y >= 0 && box.y + box.height <= frame.height - 40 })()"
    )
    choose(opened, "[data-part=front] select", "measure 0")
    assert "attention span" in opened.value(label)


def test_two_variants_are_compared(opened: Browser) -> None:
    """The best seed beside the best, by figures and lines; others by choice."""
    text = "document.querySelector('[data-part=sides]').textContent"
    assert "\N{MINUS SIGN}0.6000" in opened.value(text)
    choose(opened, "[data-part=sides] label + label select", "0001/01")
    assert "- name: v00\n+ name: v01" in opened.value(text)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nothing_is_cut_off(tmp_path: Path, width: int, scheme: str) -> None:
    """On a desk and on a phone, the page is as wide as the window, but for what is scrolled in a place of its own."""
    with Browser(width, 800, scheme) as one:
        one.open(address(tmp_path, sample()))
        assert one.value("document.documentElement.scrollWidth") == width
        beyond = (
            "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 "
            "&& !e.closest('.scroll')).map(e => e.outerHTML.slice(0, 200))"
        )
        assert one.value(beyond) == []
        assert one.complaints == []


def test_text_of_the_run_stays_text(tmp_path: Path) -> None:
    """Hostile names, documents, operators and messages run nothing and make no element, in windows and choices too."""
    bad = variant(f"0001/{HOSTILE}", 7.0, 0.6, operators=(HOSTILE,), document=HOSTILE, parents=("0000/00",))
    child = failed("0001/01", HOSTILE, HOSTILE, parents=(bad.id,), document=HOSTILE)
    found = sample(variants=(variant("0000/00", 7.7, 0.5), bad, child), elites={0: bad.id}, best=bad.id, lineage=())
    report = replace(found, best_scored=bad.id, measures=(HOSTILE, *found.measures[1:]))
    with Browser() as one:
        one.open(address(tmp_path, report))
        one.click(".plane [data-id]" if one.value("!!document.querySelector('.plane [data-id]')") else ".family .elite")
        assert HOSTILE in one.value("document.getElementById('variant').textContent")
        assert one.value("document.querySelectorAll('script').length") == 2
        assert one.value("document.querySelectorAll('[src]').length") == 0
        assert one.complaints == []


def test_any_run_works(tmp_path: Path) -> None:
    """Whatever a run has not got, no script fails over it."""
    with Browser() as one:
        for index, (name, report) in enumerate(DEGENERATE.items()):
            one.open(address(tmp_path, report, str(index)))
            assert one.complaints == [], name
