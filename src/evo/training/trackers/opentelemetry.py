"""OpenTelemetry: gauges of what is measured, and one span a training."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.slime.telemetry import TelemetryCollector
from evo.training.trackers.base import Tracked
from evo.training.trackers.spec import OpenTelemetrySpec


class _Told:
    def __init__(self, collector: TelemetryCollector) -> None:
        self._collector, self._span = collector, ExitStack()
        self._span.enter_context(collector.span("training"))

    def note(self, step: int, values: Mapping[str, float]) -> None:
        self._collector.record_all({"step": step, **{name.replace("/", "."): v for name, v in values.items()}})

    def close(self) -> None:
        self._span.close()


def begin(spec: OpenTelemetrySpec, tracked: Tracked) -> _Told:
    """A span that has begun. Raises DiagnosticError where the process has no providers (EVO525)."""
    del spec
    collector = TelemetryCollector(attributes={"training": tracked.name})
    from opentelemetry import metrics, trace  # pyright: ignore[reportMissingImports]
    from opentelemetry.sdk.metrics import MeterProvider  # pyright: ignore[reportMissingImports]
    from opentelemetry.sdk.trace import TracerProvider  # pyright: ignore[reportMissingImports]

    is_set = isinstance(metrics.get_meter_provider(), MeterProvider)
    if not (is_set or isinstance(trace.get_tracer_provider(), TracerProvider)):
        message, help = (
            "the tracker 'opentelemetry' has nobody to tell: this process has no provider",
            "opentelemetry-instrument evo train ..., which sets providers from OTEL_* variables",
        )
        raise DiagnosticError([Diagnostic("EVO525", message, None, help)])
    return _Told(collector)
