"""An OTLP gRPC receiver that keeps the spans and metrics it is sent."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass(frozen=True)
class Span:
    """One received span; ids in hexadecimal digits, `parent` empty for a root."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, str]


@dataclass(frozen=True)
class Point:
    """One point of a received metric: `value` of a histogram is its sum, `buckets` are its counts by upper bound."""

    service: str
    name: str
    unit: str
    kind: str
    attributes: dict[str, str]
    value: float
    buckets: tuple[tuple[float, int], ...] = ()


class _Metrics(MetricsServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        self._receiver.take_metrics(request)
        return ExportMetricsServiceResponse()


class OtlpReceiver(TraceServiceServicer):
    """Receives spans and metrics on a free port, within a ``with`` block."""

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)
        add_MetricsServiceServicer_to_server(_Metrics(self), self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._points: dict[str, list[Point]] = {}
        self._raw: list[bytes] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(1).wait()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        with self._lock:
            self._raw.append(request.SerializeToString())
            self._spans += [span for resource in request.resource_spans for span in _spans(resource)]
        return ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        with self._lock:
            return list(self._spans)

    def take_metrics(self, request: Any) -> None:
        with self._lock:
            self._raw.append(request.SerializeToString())
            for resource in request.resource_metrics:
                self._points[_service(resource)] = list(_points(resource))

    def points(self, service: str) -> list[Point]:
        """Return the points of the last export of a service."""
        with self._lock:
            return list(self._points.get(service, ()))

    def raw(self) -> list[bytes]:
        """Return the requests as they came: nothing of them is left out."""
        with self._lock:
            return list(self._raw)

    def wait_for(self, trace_ids: Iterable[str], spans_each: int, timeout: float = 60) -> dict[str, list[Span]]:
        """Wait until each trace has so many spans; return what there is by trace."""
        wanted, end = set(trace_ids), time.monotonic() + timeout
        while True:
            found: dict[str, list[Span]] = {trace_id: [] for trace_id in wanted}
            for span in self.spans():
                if span.trace_id in found:
                    found[span.trace_id].append(span)
            if all(len(spans) >= spans_each for spans in found.values()) or time.monotonic() > end:
                return found
            time.sleep(0.2)


def _service(resource: Any) -> str:
    name = next((a.value.string_value for a in resource.resource.attributes if a.key == "service.name"), "")
    return name.removeprefix("fetalmlops-")


def _points(resource: Any) -> Iterator[Point]:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            kind = metric.WhichOneof("data")
            for point in getattr(metric, kind).data_points:
                histogram = kind == "histogram"
                yield Point(
                    service=_service(resource),
                    name=metric.name,
                    unit=metric.unit,
                    kind=kind,
                    attributes={a.key: a.value.string_value for a in point.attributes},
                    value=point.sum if histogram else point.as_double or point.as_int,
                    buckets=tuple(zip([*point.explicit_bounds, math.inf], point.bucket_counts, strict=True))
                    if histogram
                    else (),
                )


def _spans(resource: Any) -> list[Span]:
    return [
        Span(
            service=_service(resource),
            name=span.name,
            kind=span.kind,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            links=tuple(link.span_id.hex() for link in span.links),
            attributes={
                a.key: str(getattr(a.value, a.value.WhichOneof("value") or "string_value")) for a in span.attributes
            },
        )
        for scope in resource.scope_spans
        for span in scope.spans
    ]
