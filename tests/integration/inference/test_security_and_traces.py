"""TLS with client certificates, and one trace through both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.settings import TlsSettings
from fetalmlops.platform.telemetry import span
from support.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np


async def test_only_clients_with_a_certificate_of_the_authority_are_served(
    serving: Callable, frames: np.ndarray, tmp_path: Path
) -> None:
    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    server_tls = TlsSettings(enabled=True, ca_file=ours.file, require_client_certificate=True, **ours.issue("server"))
    clients = {
        "ours": TlsSettings(enabled=True, ca_file=ours.file, **ours.issue("client")),
        "none": TlsSettings(enabled=True, ca_file=ours.file),
        "foreign": TlsSettings(enabled=True, ca_file=ours.file, **foreign.issue("client")),
        "distrusting": TlsSettings(enabled=True, ca_file=foreign.file, **ours.issue("other")),
        "plain": None,
    }
    async with serving(tls=server_tls) as (_, target):
        for name, tls in clients.items():
            async with InferenceClient(target, tls, timeout_s=5) as client:
                if name == "ours":
                    assert (await client.classify([frames[:1]], [1])).best_frame == 1
                else:
                    with pytest.raises(TransientError) as caught:
                        await client.classify([frames[:1]], [1])
                    assert caught.value.everyone


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"certificate_file": "absent.pem", "key_file": "absent.pem"},
        {"certificate_file": "absent.pem", "key_file": "absent.pem", "require_client_certificate": True},
    ],
)
async def test_wrong_tls_settings_are_told_at_the_start(serving: Callable, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"inference\.tls"):
        async with serving(served=None, tls=TlsSettings(enabled=True, **wrong)):
            pass


async def test_a_taken_port_is_told_at_the_start(serving: Callable) -> None:
    async with serving(served=None) as (_, target):
        with pytest.raises(SettingsError, match=r"inference\.port"):
            async with serving(served=None, port=int(target.rpartition(":")[2])):
                pass


async def test_caller_client_and_service_share_one_trace(serving: Callable, frames: np.ndarray) -> None:
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with serving() as (_, target), InferenceClient(target) as client:
        with span("caller"):
            await client.classify([frames[:1]], [1])
    spans = {each.kind: each for each in exporter.get_finished_spans()}
    client_span, server_span = spans[SpanKind.CLIENT], spans[SpanKind.SERVER]
    assert client_span.parent.span_id == spans[SpanKind.INTERNAL].context.span_id
    assert server_span.parent.span_id == client_span.context.span_id
    assert server_span.context.trace_id == spans[SpanKind.INTERNAL].context.trace_id
    assert server_span.attributes["fetalmlops.frames"] == 1
