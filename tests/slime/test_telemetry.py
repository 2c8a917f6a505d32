"""OpenTelemetry: gauges and spans arrive where its own exporters take them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import Evo

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from evo.api.slime import SlimeMoldEncoder, TelemetryCollector


class Listening:
    """Providers whose exporters keep what they are given."""

    def __init__(self) -> None:
        self.reader, self.spans = InMemoryMetricReader(), InMemorySpanExporter()
        self.meters, self.tracers = MeterProvider([self.reader]), TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))

    def gauges(self) -> dict[str, Any]:
        """The last point of each gauge by name."""
        data = self.reader.get_metrics_data()
        assert data is not None
        found = data.resource_metrics[0].scope_metrics[0].metrics
        return {metric.name: metric.data.data_points[-1] for metric in found}


@pytest.fixture
def heard() -> Listening:
    """With nothing heard yet."""
    return Listening()


def an_epoch(model: SlimeMoldEncoder, collector: TelemetryCollector) -> None:
    """Two calls, of which the second fails."""
    with collector.span("epoch"):
        model(torch.zeros(1, 3, 8))
        model(torch.zeros(1, 3, 9))


def test_series_are_gauges_and_spans_are_spans(heard: Listening) -> None:
    """An encoder's calls arrive as the collector has them; an inner span has its parent, a failed one its error."""
    collector = TelemetryCollector(heard.meters, heard.tracers, {"run": "a"})
    model = SlimeMoldEncoder(8, 8, 4, 2, metrics=collector)
    with pytest.raises(ValueError, match="inputs are"):
        an_epoch(model, collector)
    latencies = collector.get("latency_seconds")
    point = heard.gauges()["evo.latency_seconds"]
    assert (point.value, dict(point.attributes)) == (latencies[-1], {"run": "a"})
    first, second, epoch = heard.spans.get_finished_spans()
    assert [span.name for span in (first, second, epoch)] == ["latency", "latency", "epoch"]
    assert epoch.context is not None
    assert first.parent is not None
    assert first.parent.span_id == epoch.context.span_id
    assert [span.status.is_ok for span in (first, second, epoch)] == [True, False, False]


def test_a_training_is_told(heard: Listening, tmp_path: Path, evo: Evo, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the providers of the process; where it has none, and nobody would hear, the command says so."""
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(
        "evo: 1\nname: tiny\norganism: {width: 16, context: 16, stages: [{name: a, mix: {kind: convolution}}]}\n"
        "train: {steps: 2, batch: 2}\n"
    )
    command = ("train", cfg, "--track", "opentelemetry", "--device", "cpu", "--out")
    refused = evo(*command, tmp_path / "unheard")
    assert (refused.code, "opentelemetry-instrument" in refused.err) == (1, True)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: heard.meters)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: heard.tracers)
    outcome = evo(*command, tmp_path / "out", "--json")
    gauges = heard.gauges()
    assert gauges["evo.step"].value == 2
    assert gauges["evo.held_out.bits_per_byte"].value == outcome.json["bits_per_byte"]
    (span,) = heard.spans.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("training", {"training": "tiny"})


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ImportError with the command."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match="pip install opentelemetry-sdk"):
        TelemetryCollector()
