"""report.html: a well-formed page that asks for nothing, draws every elite and survives any run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from made_reports import ACCURACY, DEGENERATE, HOSTILE, ONE_SEED, PATCH, failed, sample, variant, verdict

from evo.report.html import LIVE, SCRIPTS, page
from evo.report.page.genealogy import genealogy
from evo.report.page.glossary import MEASURES
from evo.report.page.markup import VOID
from evo.report.page.places import MAX_CENTROIDS
from evo.report.record import Credit, Step


class Outline(HTMLParser):
    """Reads a page: complains of unbalanced elements, keeps elements, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]

    def classes(self) -> Counter[str]:
        """How often each class is worn."""
        return Counter(name for value in self.values("class") for name in value.split())

    def said(self) -> str:
        """All text, in one line."""
        return re.sub(r"\s+", " ", "".join(self.text))


def test_a_warm_search_says_what_its_seeds_began_from() -> None:
    """On the page, with the variant's link, and in the record."""
    report = sample(founders={"0000/00": "snapshot of results/old/gen_0002/variant_01.yaml after 80 steps"})
    assert (
        "Seed 0000/00 began from the snapshot of results/old/gen_0002/variant_01.yaml after 80 steps."
        in Outline(page(report)).said()
    )
    assert report.to_data()["founders"] == report.founders
    assert "founders" not in sample().to_data()


@pytest.mark.parametrize("name", DEGENERATE)
def test_any_run_gives_a_well_formed_page(name: str) -> None:
    """Whatever a run has not got, the page is balanced, and nothing on it reads None or nan."""
    outline = Outline(page(DEGENERATE[name]))
    assert not re.search(r"\b(None|nan|inf)\b", outline.said())
    assert not re.search(r"\b(nan|inf)\b", " ".join(outline.values("d") + outline.values("cx") + outline.values("y")))
    assert "To repeat it" in outline.said()


def test_the_page_asks_for_nothing() -> None:
    """No address, no picture, script or sheet from elsewhere, nor by a script; links lead to the run's own files."""
    text = page(sample())
    outline = Outline(text)
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    without = re.sub(r"sha256-[\w+/=]+", "", text.replace(script, ""))
    assert not re.search(r"https?:|//|\bsrc=|@import|url\(|<link|<iframe|javascript:", without)
    assert re.findall(r"https?://[^\s\"]+", script) == ["http://www.w3.org/2000/svg"], "the name of SVG's elements"
    assert not re.search(r"\b(fetch|eval|import|XMLHttpRequest|WebSocket|innerHTML|insertAdjacentHTML)\b", script)
    assert [variant["id"] for variant in json.loads(data)["variants"]] == [v.id for v in sample().variants]
    assert all(re.fullmatch(r"gen_\d{4}/variant_\d{2}\.yaml", href) for href in outline.values("href"))


def test_scripts_are_files_that_can_be_read() -> None:
    """Each is part of the page, begins by saying what it does, and has no line beyond 120 columns."""
    folder = files("evo.report.page").joinpath("scripts")
    found = {file.name.removesuffix(".js"): file.read_text(encoding="utf-8") for file in folder.iterdir()}
    assert set(found) == {*SCRIPTS, LIVE}
    assert all(text.startswith("// ") for text in found.values())
    assert all(len(line) <= 120 for text in found.values() for line in text.splitlines())


def test_only_the_pages_own_script_may_run() -> None:
    """The policy names the script by its digest; a page that is served may ask its own server besides."""
    for live in ("", "state"):
        text = page(sample(), live=live)
        script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = str(Outline(text).elements[3][1]["content"])
        assert policy.startswith(f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'")
        assert ("connect-src 'self'" in policy) == ("fetch(" in script) == bool(live)


def test_every_elite_is_drawn_in_every_panel() -> None:
    """Ten pairs of five measures: ten panels, each with all elites, titled, and the best ringed."""
    outline = Outline(page(sample()))
    classes = outline.classes()
    dots = [value for value in outline.values("class") if re.fullmatch(r"elite q\d", value)]
    legend = 8
    pictures = 10 + 2
    assert len(dots) == pictures * 3 + legend, "of pairs, the plane and the genealogy"
    assert classes["seed"] == pictures - 1, "of pairs and the plane"
    assert classes["ring"] == pictures
    for id in ("0000/00", "0001/00", "0001/01"):
        assert len(re.findall(f"{id}: objective", outline.said())) == 10 + 1


def test_the_highest_objective_has_the_strongest_colour() -> None:
    """The scale runs from the lowest elite to the highest, and its numbers are printed."""
    text = page(sample())
    shades = dict(re.findall(r'class="elite (q\d)" data-id="\S+"><title>(\S+): objective', text))
    assert {id: shade for shade, id in shades.items()} == {"0000/00": "q0", "0001/01": "q4", "0001/00": "q7"}
    assert all(f">{edge}</text>" in text for edge in ("0.500", "0.550", "0.600"))


def test_many_cells_are_thinned_and_said_to_be() -> None:
    """A huge archive does not make a huge page."""
    text = page(sample(centroids=[[0.5] * 5] * (3 * MAX_CENTROIDS)))
    assert "one in 3 is drawn" in text
    assert text.count("h0") <= 11 * MAX_CENTROIDS + 10


def test_text_of_the_run_is_escaped() -> None:
    """Hostile names, messages, patches and files stay text."""
    bad = variant(f"0001/{HOSTILE}", 7.0, 0.6, file=HOSTILE, operators=(HOSTILE,))
    child = failed("0001/01", HOSTILE, HOSTILE, parents=(bad.id,), operators=(HOSTILE,), file=HOSTILE)
    report = sample(
        run=HOSTILE.replace("/", "|"),
        device=HOSTILE,
        variants=(variant("0000/00", 7.7, 0.5), bad, child),
        elites={0: bad.id},
        best=bad.id,
        best_scored=bad.id,
        lineage=(Step(bad.id, (HOSTILE,), 7.0, f"+ {HOSTILE}"),),
        measures=(HOSTILE, *list(MEASURES)[1:]),
        operators=(Credit(HOSTILE, 1, 0, 0, 0.0),),
        failures={HOSTILE: 1},
        verdict=verdict(HOSTILE, (7.0, 7.1)),
    )
    outline = Outline(page(report))
    scripts = [attributes for tag, attributes in outline.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert outline.said().count("alert('1')") > 20
    assert all(":" not in href and '"' not in href for href in outline.values("href"))


def test_the_headline_gives_the_gain_over_the_seed() -> None:
    """Best against best seed, absolute and relative, and failures by cause."""
    said = Outline(page(sample())).said().split("Progress")[0]
    for part in (
        "7.1000",
        "7.7000",
        "\N{MINUS SIGN}0.6000",
        "\N{MINUS SIGN}7.8 %",
        "timeout 1",
        "3 of 8 cells",
        "6.4 k",
    ):
        assert part in said


def test_learning_curves_set_off_the_chosen() -> None:
    """Every candidate with a curve has one, by the compute spent; the best and the best seed are drawn last, coloured
    and named; a rung's curve goes on from where it left the one below."""
    report = sample()
    outline = Outline(page(report))
    runs = [value for value in outline.values("class") if value.split()[:1] == ["run"]]
    assert runs == ["run", "run chosen2", "run chosen0"]
    assert "0001/00 (best objective)0000/00 (best seed)" in outline.said()
    rungs = (((10, 5.0), (20, 4.0), (30, 3.5)), ((25, 3.8), (60, 3.0)))
    climbed = replace(report.variants[0], curves=rungs)
    outline = Outline(page(sample(**{**ONE_SEED, "variants": (climbed,)})))
    drawn = next(attributes["d"] for _, attributes in outline.elements if attributes.get("class") == "run chosen0")
    places = [re.findall(r"[-\d.]+ [-\d.]+", part) for part in (drawn or "").split("M")[1:]]
    assert [len(part) for part in places] == [3, 3]
    assert places[1][0] == places[0][1], "step 20 is the last of the rung below that lies before step 25"


def test_the_header_tells_when_where_and_on_what() -> None:
    """Corpus, date, versions, times and the noise of one trial, which a band in the first panel shows as well."""
    outline = Outline(page(sample()))
    said = outline.said()
    for part in ("corpus shakespeare, begun 2026-09-21 14:13 UTC, evo 0.1, torch 2.9", "Wall time1 min 01 s", "0.0200"):
        assert part in said
    assert outline.classes()["band"] == 1
    assert Outline(page(sample(noise=None))).classes()["band"] == 0
    assert "wall" not in json.dumps(sample().to_data()), "equal runs leave equal data"


def test_the_verdict_shows_every_training() -> None:
    """A dot a seed in the colour of its role, a stroke at the mean; a contestant that failed has no row."""
    outline = Outline(page(sample()))
    classes = outline.classes()
    assert (classes["dot"], classes["mean"]) == (6, 2)
    assert "0001/00: 7.1000, 7.1200, 7.1100; 0000/00: 6.9000, 6.9200, 6.9100" in " ".join(outline.values("aria-label"))
    one = Outline(page(sample(verdict=verdict((7.1, 7.2), "memory")))).classes()
    assert (one["dot"], one["mean"]) == (2, 1)
    assert Outline(page(sample(verdict=None))).classes()["dot"] == 0


def test_elites_are_listed_with_their_documents() -> None:
    """The best first, each with its cell and YAML, also where no script runs."""
    said = Outline(page(sample())).said().split("Elites")[1].split("Pareto")[0]
    assert said.count("name: v00") == 2
    assert said.count("name: v01") == 1
    assert said.index("0001/00") < said.index("0001/01") < said.index("0000/00")


def test_the_whole_family_is_drawn() -> None:
    """Every variant has a mark, every parent a line, further parents another one, and the line of the best is thick."""
    outline = Outline(page(sample()))
    edges = [(a["class"], a["data-parent"], a["data-child"]) for _, a in outline.elements if "data-child" in a]
    assert edges == [
        ("kin first", "0000/00", "0001/00"),
        ("kin", "0000/00", "0001/01"),
        ("kin other", "0001/00", "0001/01"),
        ("kin", "0000/00", "0001/02"),
    ]
    assert outline.classes()["failed"] == 1


def test_a_huge_family_is_thinned_to_elites_and_their_ancestors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is said."""
    monkeypatch.setattr("evo.report.page.genealogy.MOST", 20)
    many = [variant(f"0001/{n:02d}", 7.2, 0.5, parents=("0000/00",)) for n in range(20)]
    report = sample(variants=(sample().variants[0], *many), elites={0: "0001/05"}, best="0001/05", lineage=())
    outline = Outline(genealogy(report))
    assert [a["data-child"] for _, a in outline.elements if "data-child" in a] == ["0001/05"]
    assert "19 others are not" in outline.said()


def test_luck_with_one_child_leads_no_table() -> None:
    """Operators stand by the worse end of their intervals; who has none comes last."""
    credits = (Credit("lucky", 1, 0, 1, -2.0), Credit("sure", 9, 0, 9, -0.5, 0.1), Credit("wide", 3, 0, 2, -0.6, 0.9))
    said = Outline(page(sample(operators=credits))).said()
    assert said.index("sure9") < said.index("wide3") < said.index("lucky1")
    assert "one child" in said


def test_lineage_shows_each_step_with_its_signed_patch() -> None:
    """Operators, scores, changes and patches, the lines marked by their signs."""
    outline = Outline(page(sample()))
    classes, said = outline.classes(), outline.said()
    assert classes["add"] == classes["del"] == classes["chg"] == 2
    assert "7.1000 bits per byte\N{MINUS SIGN}0.6000 against its parent" in said


def test_why_it_won_is_shown_beside_parent_and_seed() -> None:
    """Terms and the parts of the cost, of the seed, the parent where it is another, and the best."""
    said = Outline(page(sample())).said()
    for part in ("task term", "cached values, full context168168", "steps trained1001001.000"):
        assert part in said
    late = variant("0002/00", 6.9, 0.7, parents=("0001/00",), operators=("number",))
    lines = (*sample().lineage, Step("0002/00", ("number",), 6.9, PATCH))
    report = sample(variants=(*sample().variants, late), best="0002/00", lineage=lines)
    assert "cached values, full context168168168" in Outline(page(report)).said()


def test_long_snapshot_tables_fold() -> None:
    """Up to twenty rows stand open; more fold away under their count."""
    few, more = (tuple(variant(f"0000/{n:02d}", 7.0, 0.5) for n in range(count)) for count in (20, 21))
    short, long = (sample(**{**ONE_SEED, "snapshots": sample().snapshots, "variants": v}) for v in (few, more))
    assert "20 snapshots" not in page(short)
    assert "<summary>21 snapshots</summary>" in page(long)


def test_a_score_to_be_raised_is_said_so() -> None:
    """Where higher is better, a rise is a gain: in the verdicts, the lineage, the operators and the words."""
    outline = Outline(page(sample(**ACCURACY)))
    said = outline.said()
    for part in (
        "Better than the best seed by 0.1000",
        "0.6000 accuracy",
        "Highest accuracy",
        "highest so far",
        "higher is better, 0.1 is a uniform guess",
    ):
        assert part in said
    assert "bits per byte" not in said
    assert outline.classes()["bad"] == 0
    assert said.index("number1") < said.index("split1")


def test_the_data_is_plain_json() -> None:
    """Scores stand under the task's own name, and counts are whole numbers."""
    data = json.loads(json.dumps(sample().to_data()))
    assert data["variants"][1]["bits_per_byte"] == 7.1
    assert data["variants"][1]["snapshot_bytes"] == 3354
    assert data["generations"][1]["best_bits_per_byte"] == 7.1
    assert data["verdict"]["against_best"]["outcome"] == "worse"
    assert data["verdict"]["contestants"][0]["scores"] == [7.1, 7.12, 7.11]
    assert data["conclusion"]["mood"] == "no"
    assert data["lineage"][0] == {"id": "0000/00", "operators": [], "bits_per_byte": 7.7, "patch": ""}
    other = sample(**ACCURACY).to_data()
    assert other["variants"][1]["accuracy"] == other["generations"][1]["best_accuracy"] == 0.6
    assert other["conclusion"]["mood"] == "yes"


def test_commands_are_quoted_for_a_shell() -> None:
    """A path with a space or a dollar is one word."""
    text = Outline(page(sample(run="results/my run $1"))).said()
    assert "evo resume 'results/my run $1'" in text
    assert "evo diff 'results/my run $1/gen_0000/variant_00.yaml' 'results/my run $1/gen_0001/variant_00.yaml'" in text
    assert "--generations 1 --population 3 --seed 0 --out 'results/my run $1_again'" in text


def test_pictures_are_described_and_headings_in_order() -> None:
    """Every drawing has a spoken label, one h1 comes first, every column of a table is named."""
    outline = Outline(page(sample()))
    drawings = [
        attributes for tag, attributes in outline.elements if tag == "svg" and attributes.get("class") != "clip"
    ]
    assert len(drawings) == 1 + 6 + 1 + 1 + 10 + 1 + 1
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)
    headings = [tag for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    assert all(attributes.get("scope") for tag, attributes in outline.elements if tag == "th")


def test_every_measure_is_defined() -> None:
    """The glossary has exactly the archive's measures."""
    from evo.training.behaviour import MEASURES as measured  # loads torch, so not above

    assert tuple(MEASURES) == measured
