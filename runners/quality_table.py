"""What several calls of `search_quality.py` found together, as one table for each setting and length of the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from evo.base.intervals import mean_interval

SEED = "seed document"
AGAINST = "evolve"
"""The arm that is held against each other one, search by search."""

Key = tuple[str, int]
"""A corpus and the seed of a search."""


def read(folder: Path) -> list[dict[str, Any]]:
    """What calls left in a folder, in the order of their files' names."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("quality_*.json"))]
    return [data for data in found if "setting" in data]


def tables(calls: Sequence[dict[str, Any]]) -> str:
    """The page over calls: a section for each setting and each length of the verdict."""
    sections = list[str]()
    for setting in _distinct(call["setting"] for call in calls):
        own = [call for call in calls if call["setting"] == setting]
        for times in sorted({check["times"] for call in own for check in call["checks"]}):
            sections.append(_section(own, setting, times))
    return "\n".join(sections)


def changes(calls: Sequence[dict[str, Any]], times: float) -> dict[str, dict[Key, float]]:
    """By arm and search: the winner's score minus the seed document's, over the training seeds that both have; NaN
    where a training gave no score."""
    scores = dict[tuple[str, str], dict[int, float | None]]()
    for check in (check for call in calls for check in call["checks"] if check["times"] == times):
        scores.setdefault((check["name"], check["corpus"]), {})[check["seed"]] = check["score"]
    found = dict[str, dict[Key, float]]()
    for (name, corpus), own in scores.items():
        arm, _, seed = name.rpartition("/")
        plain = scores.get((SEED, corpus), {})
        if arm and (common := own.keys() & plain.keys()):
            change = fmean(_number(own[n]) - _number(plain[n]) for n in common)
            found.setdefault(arm, {})[corpus, int(seed)] = change
    return found


def rows(calls: Sequence[dict[str, Any]], times: float) -> list[dict[str, Any]]:
    """A row an arm: its changes over all searches and by corpus, and what its searches took."""
    known = changes(calls, times)
    searches = _searches(calls)
    found = list[dict[str, Any]]()
    for arm in dict.fromkeys(arm for arm, _, _ in searches):
        own, values = [row for (name, *_), row in searches.items() if name == arm], known.get(arm, {})
        found.append({
            "arm": arm,
            "all": _interval(values.values()),
            "by_corpus": {c: _interval(v for (name, _), v in values.items() if name == c) for c in _corpora(calls)},
            "better": sum(value < 0 for value in values.values()),
            "searches": len(values),
            **{name: fmean(row[name] for row in own) for name in ("trained", "flops", "seconds")},
            "failed": fmean(sum(row["failed"].values()) for row in own),
            "complete": sum(row["is_complete"] for row in own),
        })  # fmt: skip
    return found


def differences(calls: Sequence[dict[str, Any]], times: float) -> list[dict[str, Any]]:
    """`AGAINST` minus each other arm and the seed document, over the searches that both have: (corpus, seed) pairs."""
    known = changes(calls, times)
    own = known.pop(AGAINST, {})
    known = {**known, SEED: dict.fromkeys(own, 0.0)}
    return [
        {
            "minus": arm,
            "all": _interval(own[key] - other[key] for key in own if key in other),
            "by_corpus": {
                c: _interval(own[key] - other[key] for key in own if key in other and key[0] == c)
                for c in _corpora(calls)
            },
        }
        for arm, other in known.items()
    ]


def _section(calls: Sequence[dict[str, Any]], setting: dict[str, Any], times: float) -> str:
    corpora = _corpora(calls)
    texts = {name: text for call in calls for name, text in call["texts"].items()}
    trainings = len({check["seed"] for call in calls for check in call["checks"] if check["times"] == times})
    begun = f", begun with {setting['organism']}" if "organism" in setting else ""
    lines = [
        f"## {setting['candidates']} x {setting['steps']} seed steps of FLOPs a search{begun}, "
        f"verdict at {times:g} x of one",
        "",
        f"Winner minus seed document, bits per byte, less is better: means over searches (seeds and corpora) with 95 %"
        f" intervals over them; each from scratch over {trainings} seeds on text that no search read.",
        "",
        f"| arm | all | {' | '.join(corpora)} | better | trials | failed | FLOPs | s | complete |",
        f"|{' --- |' * (8 + len(corpora))}",
    ]
    for row in rows(calls, times):
        parts = " | ".join(_text(row["by_corpus"][corpus]) for corpus in corpora)
        lines.append(
            f"| {row['arm']} | {_text(row['all'])} | {parts} | {row['better']} of {row['searches']} | "
            f"{row['trained']:.0f} | {row['failed']:.1f} | {row['flops']:.2e} | {row['seconds']:.0f} | "
            f"{row['complete']} |"
        )
    lines += ["", f"| {AGAINST} minus | all | {' | '.join(corpora)} |", f"|{' --- |' * (2 + len(corpora))}"]
    for row in differences(calls, times):
        parts = " | ".join(_text(row["by_corpus"][corpus]) for corpus in corpora)
        lines.append(f"| {row['minus']} | {_text(row['all'])} | {parts} |")
    lines += ["", *(f"- {name}: {text['bytes']:,} bytes, digest {text['digest'][:16]}" for name, text in texts.items())]
    said = dict.fromkeys(f"- `{call['command']}`, commit {call['commit']}, {call['hardware']}" for call in calls)
    return "\n".join([*lines, *said, ""])


def _searches(calls: Sequence[dict[str, Any]]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Each search once; the last that a call carried out."""
    return {(row["arm"], row["corpus"], row["seed"]): row for call in calls for row in call["searches"]}


def _corpora(calls: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(check["corpus"] for call in calls for check in call["checks"]))


def _number(score: float | None) -> float:
    return math.nan if score is None else score


def _interval(values: Iterable[float]) -> tuple[float, float] | None:
    """(mean, half the width) of numbers that are known."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return None
    found = mean_interval(known)
    return found.mean, found.half_width


def _text(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.4f} ± {interval[1]:.4f}"


def _distinct(values: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found = list[dict[str, Any]]()
    for value in values:
        if value not in found:
            found.append(value)
    return found
