"""OpenTelemetry: what a collector records as gauges, and its spans as spans, besides what it keeps.

The providers that the process has are used unless others are handed in: `opentelemetry-instrument python ...` sets them
from `OTEL_*` variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evo.slime.observability import MetricsCollector

SCOPE = "evo"


class TelemetryCollector(MetricsCollector):
    """A collector that tells OpenTelemetry, too: `evo.NAME` is a gauge of the last number of each series, and a span is
    a span of its name below the one it is in.

    attributes: of every number and span.

    Raises:
        ImportError: `opentelemetry-api` is not installed.
    """

    def __init__(
        self, meters: Any = None, tracers: Any = None, attributes: dict[str, str | int | float] | None = None
    ) -> None:
        super().__init__()
        try:
            from opentelemetry import metrics, trace  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ImportError("OpenTelemetry is not installed: pip install opentelemetry-sdk") from None
        self._meter: Any = (meters or metrics.get_meter_provider()).get_meter(SCOPE)
        self._tracer: Any = (tracers or trace.get_tracer_provider()).get_tracer(SCOPE)
        self._gauges: dict[str, Any] = {}
        self.attributes = attributes or {}

    def record(self, name: str, value: float) -> None:
        """See `MetricsCollector.record`."""
        super().record(name, value)
        if name not in self._gauges:
            self._gauges[name] = self._meter.create_gauge(f"{SCOPE}.{name}")
        self._gauges[name].set(float(value), self.attributes)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """See `MetricsCollector.span`; what it holds that fails marks the span as failed."""
        with self._tracer.start_as_current_span(name, attributes=self.attributes), super().span(name):
            yield
