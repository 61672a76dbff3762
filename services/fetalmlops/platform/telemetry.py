"""Traces, metrics and logs of a process.

Nothing leaves the process unless an OTLP endpoint is set. Logs are JSON lines with the trace id; text from libraries is
kept from WARNING up only, and pydicom's, which quotes values of the data, not at all.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fetalmlops import __version__
from fetalmlops.domain.errors import FetalMLOpsError, SettingsError
from fetalmlops.platform.metrics import MetricsPusher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    from fetalmlops.platform.settings import Settings, TelemetrySettings

__all__ = [
    "begin_span",
    "current_traceparent",
    "get_logger",
    "set_up_telemetry",
    "shut_down_telemetry",
    "span",
    "traceparent_of",
    "within",
]

_SILENCED = ("pydicom", "pydicom.config")
_EXPORT_S = 3.0
_PROPAGATOR = TraceContextTextMapPropagator()
_pushers: list[MetricsPusher] = []


def set_up_telemetry(process: str, settings: Settings) -> None:
    """Set up logging, tracing and the pushing of metrics for a process, once, at its start.

    Raises
    ------
    SettingsError
        If the endpoint and ``telemetry.tls`` do not go together, or a file of it cannot be read.
    """
    _set_up_logging(process, settings.telemetry.log_level)
    sampler = ParentBased(TraceIdRatioBased(settings.telemetry.sampling_ratio))
    resource = Resource.create({"service.name": f"fetalmlops-{process}", "service.version": __version__})
    provider = TracerProvider(sampler=sampler, resource=resource)
    if settings.telemetry.otlp_endpoint:
        provider.add_span_processor(BatchSpanProcessor(_open_otlp(settings.telemetry), schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    if settings.telemetry.otlp_endpoint:
        _push_metrics(settings.telemetry, resource)


def shut_down_telemetry() -> None:
    """Send what is left of the traces, and the metrics once more."""
    for pusher in _pushers:
        pusher.stop()
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
    while _pushers:
        _pushers.pop().join()


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; its calls take an event name and fields, never a value of patient data."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


@contextmanager
def span(
    name: str,
    *,
    traceparent: str = "",
    tracestate: str = "",
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int | float | bool] | None = None,
    links: Sequence[str] = (),
) -> Iterator[Span]:
    """Run a block within a span.

    Parameters
    ----------
    name
        Span name: low cardinality.
    traceparent, tracestate
        W3C context of the remote parent; empty: the current span is the parent.
    kind
        Span kind.
    attributes
        Attributes by the semantic conventions.
    links
        W3C contexts of spans that are related but no parents.
    """
    begun = begin_span(
        name, traceparent=traceparent, tracestate=tracestate, kind=kind, attributes=attributes, links=links
    )
    with within(begun):
        yield begun


def begin_span(
    name: str,
    *,
    traceparent: str = "",
    tracestate: str = "",
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int | float | bool] | None = None,
    links: Sequence[str] = (),
) -> Span:
    """Begin a span that another thread may go on with by `within`, or end. Parameters as of `span`."""
    parent = _PROPAGATOR.extract({"traceparent": traceparent, "tracestate": tracestate}) if traceparent else None
    related = [
        Link(trace.get_current_span(_PROPAGATOR.extract({"traceparent": link})).get_span_context())
        for link in links
        if link
    ]
    tracer = _tracer(trace.get_tracer_provider())
    return tracer.start_span(name, context=parent, kind=kind, attributes=dict(attributes or {}), links=related)


@lru_cache(maxsize=1)
def _tracer(provider: TracerProvider) -> trace.Tracer:
    return provider.get_tracer("fetalmlops")


@contextmanager
def within(begun: Span) -> Iterator[None]:
    """Run a block within a span that has begun, and end it."""
    with trace.use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except FetalMLOpsError as error:
            begun.record_exception(error)
            begun.set_status(Status(StatusCode.ERROR, str(error)))
            raise
        except Exception as error:
            # The text of a foreign exception may quote the data: its type alone is safe.
            begun.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def traceparent_of(begun: Span) -> str:
    """Return the W3C ``traceparent`` of a span, empty where it has none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(begun))
    return carrier.get("traceparent", "")


def current_traceparent() -> str:
    """Return the W3C ``traceparent`` of the current span, empty where there is none."""
    return traceparent_of(trace.get_current_span())


def _open_otlp(telemetry: TelemetrySettings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(**_connection(telemetry))


def _push_metrics(telemetry: TelemetrySettings, resource: Resource) -> None:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(**_connection(telemetry), timeout=_EXPORT_S)
    _pushers.append(MetricsPusher(exporter, resource, telemetry.metrics_interval_s))


def _connection(telemetry: TelemetrySettings) -> dict[str, Any]:
    from fetalmlops.platform.inference.channels import channel_credentials

    endpoint = telemetry.otlp_endpoint
    if not endpoint.startswith("http://"):
        credentials = channel_credentials(telemetry.tls, "telemetry.tls")
        return {"endpoint": endpoint, "insecure": False, "credentials": credentials}
    if telemetry.tls.enabled:
        msg = "Expected telemetry.otlp_endpoint to begin with https:// where telemetry.tls is enabled, got http://; mend one"
        raise SettingsError(msg)
    return {"endpoint": endpoint, "insecure": True}


def _set_up_logging(process: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _Named(process),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_foreign_text,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("fetalmlops").setLevel(level)
    logging.captureWarnings(capture=True)
    for name in _SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    logging.getLogger("py.warnings").setLevel(logging.CRITICAL + 1)


class _Named:
    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = self._process
        return event


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
    return event


def _without_foreign_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace tracebacks by their places: the text of a foreign exception may quote the data."""
    error = _exception_of(event.pop("exc_info", None))
    if error is not None:
        places = []
        step = error.__traceback__
        while step is not None:
            places.append(f"{step.tb_frame.f_code.co_filename.rpartition('/')[2]}:{step.tb_lineno}")
            step = step.tb_next
        event["error"] = str(error) if isinstance(error, FetalMLOpsError) else type(error).__name__
        event["at"] = places[-6:]
    event.pop("exception", None)
    return event


def _exception_of(info: Any) -> BaseException | None:
    """Return the exception that is meant by any of the forms that a logger takes: true, itself, or a triple."""
    if isinstance(info, BaseException):
        return info
    error = (info if isinstance(info, tuple) else sys.exc_info())[1] if info else None
    return error if isinstance(error, BaseException) else None
