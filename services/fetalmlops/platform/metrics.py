"""The metrics of a process by OTLP: what ``/metrics`` shows, pushed to a receiver now and then, and at the end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import REGISTRY

from fetalmlops import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Sample

__all__ = ["MetricsPusher", "convert"]

_UNITS: Final = {"_seconds": "s", "_bytes": "By", "_joules": "J"}
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_PATIENCE_S: Final = 4.0


class MetricsPusher:
    """Exports the registry from a thread of its own, until it is stopped.

    Parameters
    ----------
    exporter
        Sends them.
    resource
        What they are of.
    interval_s
        Time between two exports.
    """

    def __init__(self, exporter: MetricExporter, resource: Resource, interval_s: float) -> None:
        self._exporter = exporter
        self._resource = resource
        self._interval_s = interval_s
        self._began_ns = time.time_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin to export once more, for the last time."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until that has ended, if the receiver takes it soon."""
        self._thread.join(_PATIENCE_S)
        self._exporter.shutdown(0)

    def _live(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._export()
        self._export()

    def _export(self) -> None:
        self._exporter.export(convert(REGISTRY, self._resource, self._began_ns, time.time_ns()))


def convert(registry: CollectorRegistry, resource: Resource, began_ns: int, now_ns: int) -> MetricsData:
    """Return what a registry holds as OpenTelemetry's data.

    Counters become monotonic sums, histograms keep their bounds, all else becomes gauges. Names stay as they are; the unit
    follows from the name.

    Parameters
    ----------
    registry
        The registry.
    resource
        What the metrics are of.
    began_ns, now_ns
        Since when counters count, and the time of the reading, in nanoseconds of the epoch.
    """
    metrics = [
        Metric(family.name, family.documentation, _unit(family.name), data)
        for family in registry.collect()
        if (data := _data(family, began_ns, now_ns)).data_points
    ]
    scope = InstrumentationScope("fetalmlops", __version__)
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


def _data(family: Family, began_ns: int, now_ns: int) -> Sum | Gauge | Histogram:
    if family.type == "histogram":
        return Histogram(list(_histograms(family.samples, began_ns, now_ns)), _CUMULATIVE)
    name = f"{family.name}_total" if family.type == "counter" else family.name
    points = [
        NumberDataPoint(dict(sample.labels), began_ns, now_ns, sample.value)
        for sample in family.samples
        if sample.name == name
    ]
    return Sum(points, _CUMULATIVE, is_monotonic=True) if family.type == "counter" else Gauge(points)


def _histograms(samples: Sequence[Sample], began_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
    """Yield a point for each set of labels: its buckets, which stand one after the other and count up, then its sum."""
    bounds: list[float] = []
    counts: list[int] = []
    for sample in samples:
        if sample.name.endswith("_bucket"):
            bounds.append(float(sample.labels["le"]))
            counts.append(int(sample.value))
        elif sample.name.endswith("_sum"):
            each = [after - before for before, after in zip([0, *counts], counts, strict=False)]
            unknown: Any = None  # a registry keeps neither the least value nor the greatest
            yield HistogramDataPoint(
                dict(sample.labels), began_ns, now_ns, counts[-1], sample.value, each, bounds[:-1], unknown, unknown
            )
            bounds, counts = [], []


def _unit(name: str) -> str:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")
