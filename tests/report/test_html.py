"""report.html: a well-formed page that asks for nothing, draws every elite and survives any run."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

import pytest

from evo.report.html import page
from evo.report.page.archive import MAX_CENTROIDS
from evo.report.page.glossary import MEASURES
from evo.report.page.markup import VOID
from evo.tasks.bytes.spec import BytesSpec

HOSTILE = """</title></style><script src="https://x.example/a.js">alert('1')</script>&amp;"""
PATCH = "~ organism.width: 32 -> 64\n+ train.schedule: {kind: cosine}\n- organism.stages.body.repeat: 2"
NAN = float("nan")


def variant(id: str, bits: float, objective: float, **more: Any) -> dict[str, Any]:
    """One candidate that was scored."""
    generation, _, slot = id.partition("/")
    return {
        "id": id,
        "file": f"gen_{generation}/variant_{slot}.yaml",
        "parents": [],
        "operators": [],
        "parameters": 28832,
        "flops_per_token": 62208.0,
        "cause": "",
        "bits_per_byte": bits,
        "objective": objective,
        "measures": [0.1, 0.2, 0.3, 0.4, objective],
        "inherited": 0.0,
        "snapshot_bytes": 3354,
        "fp32_bytes": 115328,
        "snapshot_ratio": 34.4,
        "snapshot_increase": 0.0084,
        **more,
    }


def generation(number: int, **more: Any) -> dict[str, Any]:
    """One generation's summary."""
    numbers = {"temperature": 0.05, "candidates": 2, "failures": 1, "coverage": 0.25, "qd_score": 1.5, "improved": 1}
    bests = {"best_objective": 0.6, "best": "0001/00", "best_bits_per_byte": 7.1, "best_scored": "0001/00"}
    return {"generation": number, **numbers, **bests, "annealed": 0, **more}


def sample(**changes: Any) -> dict[str, Any]:
    """The mapping of a small finished run: a seed, a better child, a crossed child, a failed one."""
    child = variant("0001/00", 7.1, 0.6, parents=["0000/00"], operators=["number"], inherited=1.0)
    crossed = variant("0001/01", 7.3, 0.55, parents=["0000/00", "0001/00"], operators=["crossover"])
    failed = {**variant("0001/02", 0.0, 0.0, parents=["0000/00"]), "cause": "timeout", "message": "too slow"}
    for key in ("bits_per_byte", "objective", "measures", "snapshot_bytes"):
        del failed[key]
    base = {
        "run": "results/small",
        "seed": 0,
        "device": "cpu",
        "settings": {"generations": 1, "population": 3, "seed": 0},
        "fitness": {"task": 0.7, "efficiency": 0.2, "gradient": 0.1},
        "score": asdict(BytesSpec.primary),
        "measures": list(MEASURES),
        "centroids": [[0.1 * cell] * 5 for cell in range(8)],
        "generations": [generation(0, best_bits_per_byte=7.7, best_objective=0.5), generation(1)],
        "variants": [variant("0000/00", 7.7, 0.5), child, crossed, failed],
        "elites": {"0": "0000/00", "3": "0001/00", "5": "0001/01"},
        "best": "0001/00",
        "best_scored": "0001/00",
        "lineage": [
            {"id": "0000/00", "operators": [], "bits_per_byte": 7.7, "patch": ""},
            {"id": "0001/00", "operators": ["number"], "bits_per_byte": 7.1, "patch": PATCH},
        ],
        "diff_from_seed": PATCH,
        "control": control(6.9, False),
        "operators": [
            {"operator": "number", "children": 2, "failed": 1, "better_than_parent": 1, "mean_change": -0.6},
            {"operator": "split", "children": 1, "failed": 1, "better_than_parent": 0, "mean_change": None},
        ],
        "failures": {"timeout": 1},
        "snapshots": {"median_ratio": 34.4, "median_increase": 0.0084, "worst_increase": 0.0097},
        "trained": {"tokens": 6400, "flops": 1.26e9},
        "seconds": 117.7,
    }
    return {**base, **changes}


def control(bits: float | None, wins: bool, cause: str = "") -> dict[str, Any]:
    """The seed trained for as long as the winner's ancestry."""
    scores = {"winner_bits_per_byte": 7.1, "control_bits_per_byte": bits, "winner_beats_control": wins}
    return {"winner": "0001/00", "seed": "0000/00", "steps": 8, "cause": cause, **scores}


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


UNKNOWN = {
    "best": "0009/09",
    "best_scored": None,
    "lineage": [{"id": "0009/09", "operators": ["gone"], "bits_per_byte": NAN, "patch": ""}],
    "elites": {"0": "0009/09", "99": "0009/08"},
}
ONE_SEED = {
    "generations": [generation(0, best="0000/00")],
    "variants": [variant("0000/00", 7.7, 0.5)],
    "elites": {"0": "0000/00"},
    "best": "0000/00",
    "lineage": [{"id": "0000/00", "operators": [], "bits_per_byte": 7.7, "patch": ""}],
    "diff_from_seed": "",
    "operators": [],
    "control": None,
    "snapshots": None,
}
EMPTY = {key: [] for key in ("measures", "centroids", "generations", "variants", "lineage", "operators")}
DEGENERATE = {
    "nothing": {"score": asdict(BytesSpec.primary)},
    "no keys but empty ones": {
        "score": asdict(BytesSpec.primary),
        **EMPTY,
        "elites": {},
        "best": None,
        "failures": {},
        "trained": {},
        "seconds": None,
    },
    "nothing but None": {**dict.fromkeys(sample()), "score": asdict(BytesSpec.primary)},
    "one seed": sample(**ONE_SEED),
    "all failed": sample(
        elites={}, best=None, best_scored=None, lineage=[], control=None, variants=sample()["variants"][3:]
    ),
    "control failed": sample(control=control(None, False, "memory")),
    "no failures": sample(failures={}),
    "a single measure": sample(measures=["attention_span"], centroids=[[0.5]]),
    "measures of another length": sample(measures=["a", "b"]),
    "numbers that are none": sample(
        variants=[variant("0001/00", NAN, float("inf"))], generations=[generation(0, qd_score=NAN)]
    ),
    "ids that nobody has": sample(**UNKNOWN),
    "no generation": sample(generations=[]),
    "negative changes": sample(centroids=[[-1.0, 2.0, NAN, 0.5, 0.5]], seconds=-1),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_any_run_gives_a_well_formed_page(name: str) -> None:
    """Whatever a run has not got, the page is balanced, and nothing on it reads None or nan."""
    outline = Outline(page(DEGENERATE[name]))
    assert not re.search(r"\b(None|nan|inf)\b", outline.said())
    assert not re.search(r"\b(nan|inf)\b", " ".join(outline.values("d") + outline.values("cx") + outline.values("y")))
    assert "To repeat it" in outline.said()


def test_the_page_asks_for_nothing() -> None:
    """No script, no address, no picture or sheet from elsewhere; links lead to the run's own files."""
    text = page(sample())
    outline = Outline(text)
    assert not re.search(r"https?:|//|\bsrc=|@import|url\(|<script|<link|<iframe|javascript:", text)
    assert all(re.fullmatch(r"gen_\d{4}/variant_\d{2}\.yaml", href) for href in outline.values("href"))


def test_every_elite_is_drawn_in_every_panel() -> None:
    """Ten pairs of five measures: ten panels, each with all elites, titled, and the best ringed."""
    outline = Outline(page(sample()))
    classes = outline.classes()
    dots = [value for value in outline.values("class") if re.fullmatch(r"elite q\d", value)]
    legend = 8
    assert len(dots) == 10 * 3 + legend
    assert classes["ring"] == 10
    for id in ("0000/00", "0001/00", "0001/01"):
        assert len(re.findall(f"{id}: objective", outline.said())) == 10


def test_an_elite_without_measures_stands_at_its_centroid() -> None:
    """No elite is left out because its variant cannot be found."""
    outline = Outline(page(sample(elites={"0": "0000/00", "4": "0007/07"})))
    assert len(re.findall("0007/07: objective", outline.said())) == 10


def test_the_highest_objective_has_the_strongest_colour() -> None:
    """The scale runs from the lowest elite to the highest, and its numbers are printed."""
    text = page(sample())
    shades = dict(re.findall(r'class="elite (q\d)"><title>(\S+): objective', text))
    assert {id: shade for shade, id in shades.items()} == {"0000/00": "q0", "0001/01": "q4", "0001/00": "q7"}
    assert all(f">{edge}</text>" in text for edge in ("0.500", "0.550", "0.600"))


def test_many_cells_are_thinned_and_said_to_be() -> None:
    """A huge archive does not make a huge page."""
    text = page(sample(centroids=[[0.5] * 5] * (3 * MAX_CENTROIDS)))
    assert "one in 3 is drawn" in text
    assert text.count("h0") <= 10 * MAX_CENTROIDS + 10


def test_text_of_the_run_is_escaped() -> None:
    """Hostile names, messages, patches and files stay text."""
    bad = variant(f"0001/{HOSTILE}", 7.0, 0.6, file=HOSTILE, operators=[HOSTILE], parents=[HOSTILE])
    failed = {**bad, "id": "x", "bits_per_byte": None, "cause": HOSTILE, "message": HOSTILE}
    report = sample(
        run=HOSTILE.replace("/", "|"),
        device=HOSTILE,
        seed=HOSTILE,
        variants=[bad, failed],
        best=bad["id"],
        elites={"0": bad["id"]},
        lineage=[{"id": bad["id"], "operators": [HOSTILE], "bits_per_byte": 7.0, "patch": f"+ {HOSTILE}"}],
        measures=[HOSTILE, *list(MEASURES)[1:]],
        operators=[{"operator": HOSTILE, "children": 1}],
        failures={HOSTILE: 1},
        control=control(None, False, HOSTILE),
    )
    outline = Outline(page(report))
    tags = {tag for tag, _ in outline.elements}
    assert "script" not in tags
    assert outline.said().count("alert('1')") > 20
    assert all(":" not in href and '"' not in href for href in outline.values("href"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (control(6.9, False), "The winner does NOT beat the control"),
        (control(7.4, True), "The winner beats the control"),
        (control(None, False, "memory"), "The control gave no score"),
        (None, "No control"),
    ],
)
def test_the_control_is_said_in_plain_words(given: dict[str, Any] | None, said: str) -> None:
    """Whether the winner beats the seed trained as long is a heading at the top."""
    outline = Outline(page(sample(control=given)))
    assert said in outline.said().split("Progress")[0]


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
        "1 min 58 s",
    ):
        assert part in said


def test_lineage_shows_each_step_with_its_signed_patch() -> None:
    """Operators, scores, changes and patches, the lines marked by their signs."""
    outline = Outline(page(sample()))
    classes, said = outline.classes(), outline.said()
    assert classes["add"] == classes["del"] == classes["chg"] == 2
    assert "7.1000 bits per byte\N{MINUS SIGN}0.6000 against its parent" in said


def test_long_snapshot_tables_fold() -> None:
    """Up to twenty rows stand open; more fold away under their count."""
    short, long = (sample(variants=[variant(f"0000/{n:02d}", 7.0, 0.5) for n in range(count)]) for count in (20, 21))
    assert "20 snapshots" not in page(short)
    assert "<summary>21 snapshots</summary>" in page(long)


def test_the_same_mapping_gives_the_same_page() -> None:
    """Also after a round trip through search_report.json."""
    assert page(sample()) == page(json.loads(json.dumps(sample())))


def test_commands_are_quoted_for_a_shell() -> None:
    """A path with a space or a dollar is one word."""
    text = Outline(page(sample(run="results/my run $1"))).said()
    assert "evo resume 'results/my run $1'" in text
    assert "evo diff 'results/my run $1/gen_0000/variant_00.yaml' 'results/my run $1/gen_0001/variant_00.yaml'" in text
    assert "--generations 1 --population 3 --seed 0 --out 'results/my run $1_again'" in text


def test_pictures_are_described_and_headings_in_order() -> None:
    """Every drawing has a spoken label, one h1 comes first, every column of a table is named."""
    outline = Outline(page(sample()))
    drawings = [attributes for tag, attributes in outline.elements if tag == "svg"]
    assert len(drawings) == 6 + 10 + 1
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)
    headings = [tag for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    assert all(attributes.get("scope") for tag, attributes in outline.elements if tag == "th")


def test_every_measure_is_defined() -> None:
    """The glossary has exactly the archive's measures."""
    from evo.training.behaviour import MEASURES as measured  # loads torch, so not above

    assert tuple(MEASURES) == measured
