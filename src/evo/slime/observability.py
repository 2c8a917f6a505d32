"""What happens, as numbers over time: a collector that is handed in, spans, and Prometheus' text of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class MetricsCollector:
    """Series of numbers by name, in the order in which they were recorded. Passive: nothing asks it before acting.

    clock: seconds, for spans.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._series: dict[str, list[float]] = {}
        self._clock = clock

    def record(self, name: str, value: float) -> None:
        """Add a number to a series."""
        self._series.setdefault(name, []).append(float(value))

    def record_all(self, values: Mapping[str, float]) -> None:
        """Add one number to each of several series."""
        for name, value in values.items():
            self.record(name, value)

    def get(self, name: str) -> list[float]:
        """A series so far; empty for one that nobody recorded."""
        return list(self._series.get(name, ()))

    def names(self) -> list[str]:
        """The names of all series, sorted."""
        return sorted(self._series)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Record how long what is done meanwhile takes, as `NAME_seconds`."""
        began = self._clock()
        try:
            yield
        finally:
            self.record(f"{name}_seconds", self._clock() - began)

    def to_prometheus(self) -> str:
        """The last number of each series in Prometheus' text format."""
        lines: list[str] = []
        for name in self.names():
            metric = "evo_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)
            lines += [f"# TYPE {metric} gauge", f"{metric} {self._series[name][-1]!r}"]
        return "\n".join(lines) + ("\n" if lines else "")
