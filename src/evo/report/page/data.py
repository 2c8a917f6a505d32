"""What the page's scripts read: the variants with all that may be an axis of a picture, as one block of JSON."""

from __future__ import annotations

import json
from typing import Any

from evo.report.page.figures import finite
from evo.report.page.glossary import label
from evo.report.page.markup import Html, tag
from evo.report.record import Report, Variant

AXES = {
    "objective": ("objective", True),
    "flops_per_token": ("FLOPs/token", False),
    "parameters": ("parameters", False),
    "cache": ("cached values", False),
    "steps": ("steps trained", None),
}
"""What can be an axis beside the primary score and the measures: its name, and whether more is better, if either is."""
SCORE = "score"
"""The key of the primary score's axis."""


def data_block(report: Report) -> Html:
    """The element that holds the data. It is no script, and cannot be closed by what it holds."""
    text = json.dumps(page_data(report), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return tag("script", Html(text), type="application/json", id="data")


def page_data(report: Report) -> dict[str, Any]:
    """Plain data: `axes` (key, name, whether more is better), the noise of the score, what is chosen, and variants."""
    primary = report.primary
    axes: list[dict[str, Any]] = [{"key": SCORE, "name": primary.label, "more": not primary.lower_is_better}]
    axes += [{"key": key, "name": name, "more": more} for key, (name, more) in AXES.items()]
    axes += [{"key": f"measure {index}", "name": label(name), "more": None, "unit": True}
             for index, name in enumerate(report.measures)]  # fmt: skip
    seed = report.best_seed
    return {
        "axes": axes,
        "noise": finite(report.noise),
        "chosen": {"best objective": report.best, "best score": report.best_scored, "best seed": seed and seed.id},
        "variants": [_variant(variant, report) for variant in report.variants],
    }


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
