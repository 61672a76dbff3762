"""Valkey, S3 and the OTLP receiver by TLS, users and keys: in with the right ones, and a clear error without."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.claims import Claims
from fetalmlops.platform.inference.channels import server_credentials
from fetalmlops.platform.keyvalue import open_valkey, open_valkey_blocking, valkey_errors
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import ObjectSettings, Settings, TelemetrySettings, TlsSettings
from fetalmlops.platform.telemetry import set_up_telemetry
from support.authority import Authority
from support.secured import tls_relay

WRONG = "wrong-password-of-the-test"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """The clients leave sockets of refused handshakes to the collector: let it take them here, not in another test."""
    yield
    gc.collect()


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def foreign(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "foreign")


def with_valkey(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"valkey": settings.valkey.model_copy(update=changes)})


async def use_valkey(settings: Settings) -> None:
    """Use both clients."""
    with open_valkey_blocking(settings) as blocking, valkey_errors():
        blocking.get("claim:none")
    client = open_valkey(settings)
    try:
        assert await Claims(client).published(uuid.uuid4().hex, Role.CHAMPION) is False
    finally:
        await client.aclose()


def refused_by_valkey(settings: Settings) -> str:
    with pytest.raises(TransientError) as error:
        asyncio.run(use_valkey(settings))
    assert (error.value.dependency, error.value.everyone) == ("valkey", True)
    return str(error.value)


@pytest.fixture
def acl_user(embedded: Settings) -> Iterator[Settings]:
    """A user that may touch claims only."""
    name, password = f"user-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    with open_valkey_blocking(embedded) as client:
        client.acl_setuser(name, enabled=True, passwords=[f"+{password}"], keys=["claim:*"], categories=["+@all"])
        yield with_valkey(embedded, username=name, password=type(embedded.valkey.password)(password))
        client.acl_deluser(name)


def test_a_user_of_valkey_gets_in_and_no_further_than_its_rights(acl_user: Settings) -> None:
    asyncio.run(use_valkey(acl_user))

    with (
        pytest.raises(TransientError, match="got NoPermissionError; check its version, memory and the user's rights"),
        open_valkey_blocking(acl_user) as client,
        valkey_errors(),
    ):
        client.set("vault:other", b"x")


def test_a_wrong_password_of_valkey_is_told(acl_user: Settings) -> None:
    secret = type(acl_user.valkey.password)(WRONG)
    for wrong in (with_valkey(acl_user, password=secret), with_valkey(acl_user, username="", password=secret)):
        text = refused_by_valkey(wrong)
        assert "got AuthenticationError; check that it runs and the valkey settings" in text
        assert WRONG not in text


def test_valkey_by_tls(embedded: Settings, ours: Authority, foreign: Authority) -> None:
    server = TlsSettings(enabled=True, ca_file=ours.file, require_client_certificate=True, **ours.issue("server"))
    client, stranger = ours.issue("client"), foreign.issue("client")
    # The packaged server is built without TLS: a relay ends it, as stunnel or a mesh does.
    with tls_relay(embedded.valkey.port, server) as port:

        def reached(**tls: Any) -> Settings:
            return with_valkey(embedded, port=port, tls=TlsSettings(**{"enabled": True, "ca_file": ours.file, **tls}))

        asyncio.run(use_valkey(reached(**client)))
        for wrong in (
            reached(),
            reached(**stranger),
            reached(ca_file=foreign.file, **client),
            with_valkey(embedded, port=port),
        ):
            assert "check that it runs and the valkey settings" in refused_by_valkey(wrong)


def test_a_certificate_of_another_host_is_refused(embedded: Settings, ours: Authority) -> None:
    server = TlsSettings(enabled=True, ca_file=ours.file, **ours.issue("elsewhere", "192.0.2.1"))
    with tls_relay(embedded.valkey.port, server) as port:
        refused_by_valkey(with_valkey(embedded, port=port, tls=TlsSettings(enabled=True, ca_file=ours.file)))


def test_missing_files_of_valkey_are_told_at_the_start(embedded: Settings, tmp_path: Path) -> None:
    wrong = with_valkey(embedded, tls=TlsSettings(enabled=True, ca_file=tmp_path / "absent.pem"))
    for opened in (open_valkey, open_valkey_blocking):
        with pytest.raises(SettingsError, match=r"the files of valkey\.tls"):
            opened(wrong)


def test_wrong_keys_of_s3_are_told(s3_settings: ObjectSettings, tmp_path: Path) -> None:
    secret = type(s3_settings.s3_secret_access_key)(WRONG)
    for changes in ({"s3_secret_access_key": secret}, {"s3_access_key_id": secret}):
        wrong = s3_settings.model_copy(update=changes)
        objects = open_objects(Settings(home=tmp_path, objects=wrong))
        for attempt in (
            lambda objects=objects: objects.put("clean/frames/x", b"x", "text/plain"),
            lambda objects=objects: objects.read("clean/frames/x"),
            lambda objects=objects: list(objects.walk("clean/frames")),
        ):
            with pytest.raises(TransientError, match="check that it runs and its credentials") as error:
                attempt()
            assert (error.value.dependency, error.value.everyone) == ("objects", True)
            assert WRONG not in str(error.value)


def test_s3_by_tls_of_a_private_authority(s3_settings: ObjectSettings, ours: Authority, tmp_path: Path) -> None:
    server = TlsSettings(enabled=True, ca_file=ours.file, **ours.issue("server"))
    with tls_relay(int(s3_settings.s3_endpoint.rpartition(":")[2]), server) as port:
        reached = {"s3_endpoint": f"https://127.0.0.1:{port}", "s3_allow_http": False, "s3_ca_file": ours.file}
        objects = open_objects(Settings(home=tmp_path, objects=s3_settings.model_copy(update=reached)))
        ref = objects.put(f"clean/frames/{uuid.uuid4().hex}", b"by tls", "text/plain")
        assert objects.get(ref) == b"by tls"

        distrusting = s3_settings.model_copy(update={**reached, "s3_ca_file": None})
        with pytest.raises(TransientError):
            open_objects(Settings(home=tmp_path, objects=distrusting)).read(ref.uri)


def test_s3_without_tls_has_to_be_allowed(s3_settings: ObjectSettings, tmp_path: Path) -> None:
    strict = s3_settings.model_copy(update={"s3_allow_http": False})
    with pytest.raises(TransientError):
        open_objects(Settings(home=tmp_path, objects=strict)).read("clean/frames/x")


def test_missing_authorities_of_s3_are_told_at_the_start(s3_settings: ObjectSettings, tmp_path: Path) -> None:
    wrong = s3_settings.model_copy(update={"s3_ca_file": tmp_path / "absent.pem"})
    with pytest.raises(SettingsError, match=r"the files of objects\.s3_ca_file"):
        open_objects(Settings(home=tmp_path, objects=wrong))


class Receiver(otlp_grpc.TraceServiceServicer):
    """Keeps the names of the spans that it is sent."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name in the proto
        for resource in request.resource_spans:
            self.names += [span.name for scope in resource.scope_spans for span in scope.spans]
        return otlp.ExportTraceServiceResponse()


@pytest.fixture
def receiver(ours: Authority) -> Iterator[tuple[Receiver, str]]:
    """A real OTLP receiver that serves clients with our certificates only."""
    kept = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    otlp_grpc.add_TraceServiceServicer_to_server(kept, server)
    tls = TlsSettings(enabled=True, ca_file=ours.file, require_client_certificate=True, **ours.issue("receiver"))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(tls))
    server.start()
    yield kept, f"https://127.0.0.1:{port}"
    server.stop(0).wait()


SENDER = """
import sys
from fetalmlops.platform.settings import load_settings
from fetalmlops.platform.telemetry import set_up_telemetry, shut_down_telemetry, span
set_up_telemetry("test", load_settings())
with span(sys.argv[1]):
    pass
shut_down_telemetry()
"""


def test_traces_go_to_a_receiver_by_tls(
    receiver: tuple[Receiver, str], ours: Authority, foreign: Authority, tmp_path: Path
) -> None:
    kept, endpoint = receiver
    ways = {
        "trusted": (ours.file, ours.issue("sender")),
        "unknown-authority": (foreign.file, ours.issue("sender")),
        "foreign-certificate": (ours.file, foreign.issue("sender")),
    }
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER, name],
            env={
                **os.environ,
                "FETALMLOPS_HOME": str(tmp_path),
                "FETALMLOPS_TELEMETRY__OTLP_ENDPOINT": endpoint,
                "FETALMLOPS_TELEMETRY__TLS__ENABLED": "true",
                "FETALMLOPS_TELEMETRY__TLS__CA_FILE": str(ca_file),
                "FETALMLOPS_TELEMETRY__TLS__CERTIFICATE_FILE": str(files["certificate_file"]),
                "FETALMLOPS_TELEMETRY__TLS__KEY_FILE": str(files["key_file"]),
            },
        )
        for name, (ca_file, files) in ways.items()
    ]
    assert [sender.wait(90) for sender in senders] == [0, 0, 0]
    assert kept.names == ["trusted"]


@pytest.mark.parametrize(
    ("endpoint", "tls", "message"),
    [
        ("http://127.0.0.1:4317", TlsSettings(enabled=True), r"otlp_endpoint to begin with https://"),
        ("https://127.0.0.1:4317", TlsSettings(enabled=True, ca_file=Path("absent.pem")), r"mend telemetry\.tls"),
    ],
)
def test_an_otlp_endpoint_that_contradicts_its_tls_is_told(
    endpoint: str, tls: TlsSettings, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fetalmlops.platform.telemetry._set_up_logging", lambda *_: None)
    with pytest.raises(SettingsError, match=message):
        set_up_telemetry("test", Settings(telemetry=TelemetrySettings(otlp_endpoint=endpoint, tls=tls)))
