"""What every process has: how it reads topics, what it tells about itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fetalmlops.platform.settings.connections import TlsSettings
from fetalmlops.platform.settings.section import Bytes, Port, Seconds, Section

__all__ = ["HealthSettings", "StreamSettings", "TelemetrySettings"]


class StreamSettings(Section):
    """How stages read their topics."""

    window: Annotated[int, Field(ge=1, le=1024)] = 16
    """Events in work at once in one worker."""
    window_bytes: Bytes = 64 * 1024 * 1024
    """Bytes of cited objects in work at once in one worker."""
    deadline_s: Seconds = 20.0
    """Time that one attempt at an event may take, for objects up to 1 MiB."""
    deadline_s_per_mib: Annotated[float, Field(ge=0)] = 1.0
    """Time added to the deadline for each further MiB of the cited object."""
    session_timeout_s: Seconds = 6.0
    """Time after which the broker gives a silent worker's partitions to others."""
    commit_interval_s: Seconds = 0.5
    """Time between commits of offsets."""
    instance: str = ""
    """Kafka's ``group.instance.id``, one a worker: one that is back within the session gets its partitions back at once."""
    deaths: Annotated[int, Field(ge=1, le=10)] = 3
    """Deaths of a process on an event, run alone, after which the event is quarantined unread."""


class TelemetrySettings(Section):
    """Traces, metrics and logs."""

    otlp_endpoint: str = ""
    """``http://host:4317`` or ``https://host:4317`` of an OTLP gRPC receiver; empty: neither traces nor metrics leave it."""
    metrics_interval_s: Seconds = 60.0
    """Time between two exports of the metrics to that receiver; they can always be read at ``/metrics``."""
    sampling_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the traces rooted here that are kept; a parent's decision wins."""
    tls: TlsSettings = TlsSettings()
    """TLS to the receiver; on wherever the endpoint is not ``http://``."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe level that is logged."""


class HealthSettings(Section):
    """The HTTP endpoint of each process: ``/healthz``, ``/readyz``, ``/metrics``."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 0
    """Port; 0 takes a free one."""
