"""Who lived where in the pools of a training, how long, and from which elite: read off its events. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast


@dataclass(frozen=True)
class Lived:
    """One pseudopod's life.

    born, died: steps; 0 for one that was there from the start, and None for one that lives on. parent: the name of the
    elite that its weights came from; empty where they were drawn. cause: of its death: cull, budget or memory.
    """

    pool: str
    slot: int
    name: str
    born: int
    died: int | None = None
    parent: str = ""
    cause: str = ""


def lives(events: Iterable[Mapping[str, Any]]) -> tuple[Lived, ...]:
    """All lives that events tell of, in the order in which they were told; see `evo.slime.lifecycle`."""
    found: dict[tuple[str, str], Lived] = {}
    for event in events:
        kind, pool = event["event"], event.get("pool", "")
        if kind == "look":
            for slot, name, born in event["alive"]:
                found.setdefault((pool, name), Lived(pool, slot, name, born))
        elif kind == "birth":
            born = Lived(pool, event["slot"], event["name"], event["step"], parent=event["parent"] or "")
            found[pool, born.name] = born
        elif kind == "death":
            key = pool, event["name"]
            known = found.get(key, Lived(pool, event["slot"], event["name"], event["step"] - event.get("age", 0)))
            found[key] = replace(known, died=event["step"], cause=event["cause"])
    return tuple(found.values())


def events_of(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The events in lines of `metrics.jsonl`; a line that was cut short or damaged has none."""
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            told = cast("dict[str, Any]", row).get("events", ())
            yield from (event for event in told if isinstance(event, dict) and "event" in event)
