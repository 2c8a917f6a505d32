"""What the page's scripts read: the variants with all that may be an axis of a picture, as one block of JSON."""

from __future__ import annotations

import json
from typing import Any

from evo.report.page.figures import finite
from evo.report.page.glossary import label
from evo.report.page.markup import Html, tag
from evo.report.record import Report, Variant

AXES = {
    "objective": ("objective", True, ""),
    "flops_per_token": ("FLOPs/token", False, "count"),
    "parameters": ("parameters", False, "count"),
    "cache": ("cached values", False, "count"),
    "steps": ("steps trained", None, "count"),
}
"""What can be an axis beside the primary score and the measures: its name, whether more is better (if either is), and
whether it is spelled as a count."""
SCORE = "score"
"""The key of the primary score's axis."""


def data_block(report: Report) -> Html:
    """The element that holds the data. It is no script, and cannot be closed by what it holds."""
    text = json.dumps(page_data(report), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return tag("script", Html(text), type="application/json", id="data")


def page_data(report: Report) -> dict[str, Any]:
    """Plain data: `axes` (key, name, whether more is better, how it is spelled), the noise of the score, what is
    chosen, and variants."""
    primary = report.primary
    axes = [
        _axis(SCORE, primary.label, not primary.lower_is_better, ""),
        *(_axis(key, *said) for key, said in AXES.items()),
        *(_axis(f"measure {index}", label(name), None, "unit") for index, name in enumerate(report.measures)),
    ]
    seed = report.best_seed
    return {
        "axes": axes,
        "noise": finite(report.noise),
        "chosen": {"best objective": report.best, "best score": report.best_scored, "best seed": seed and seed.id},
        "variants": [_variant(variant, report) for variant in report.variants],
    }


def _axis(key: str, name: str, more: bool | None, spelled: str) -> dict[str, Any]:
    return {"key": key, "name": name, "more": more, "spelled": spelled}


def _variant(variant: Variant, report: Report) -> dict[str, Any]:
    values = {
        SCORE: variant.score,
        "objective": variant.objective,
        "flops_per_token": variant.flops_per_token,
        "parameters": variant.parameters,
        "cache": variant.held_values - variant.parameters,
        "steps": variant.steps,
        **{f"measure {index}": value for index, value in enumerate(variant.measures)},
    }
    return {
        "id": variant.id,
        "file": variant.file,
        "parents": variant.parents,
        "operators": variant.operators,
        "document": variant.document,
        "cell": report.cells.get(variant.id),
        "failure": ": ".join(part for part in (variant.cause, variant.message) if part),
        "values": {key: finite(value) for key, value in values.items()},
    }
