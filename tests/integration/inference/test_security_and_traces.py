"""TLS with client certificates, and one trace through both ends."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.inference_client import InferenceClient
from fetalmlops.platform.settings import TlsSettings
from fetalmlops.platform.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


class Authority:
    """A certificate authority of one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._build(name, self.key.public_key(), is_authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> dict[str, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        files = {kind: self.folder / f"{self.name}-{name}-{kind}.pem" for kind in ("certificate_file", "key_file")}
        certificate = self._build(name, key.public_key(), is_authority=False)
        files["certificate_file"].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files["key_file"].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _build(self, name: str, public_key: ec.EllipticCurvePublicKey, *, is_authority: bool) -> x509.Certificate:
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(START)
            .not_valid_after(END)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )


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
