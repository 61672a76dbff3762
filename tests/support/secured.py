"""Servers that are reached by TLS and credentials only."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from fetalmlops.platform.embedded.jars import find_jars
from fetalmlops.platform.embedded.kafka import broker_command, configure_broker, format_storage
from fetalmlops.platform.embedded.layout import Layout
from fetalmlops.platform.embedded.ports import choose_ports
from fetalmlops.platform.provisioning import broker_answers, open_admin
from fetalmlops.platform.settings import KafkaSettings, TlsSettings
from support.authority import Authority

USER, PASSWORD = "stage", "right-password-of-the-test"

_PROPERTIES = """
listeners=BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl},MUTUAL://127.0.0.1:{mutual}
advertised.listeners=BROKER://127.0.0.1:{broker},SASL://127.0.0.1:{sasl},MUTUAL://127.0.0.1:{mutual}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.sasl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.mutual.ssl.client.auth=required
"""


@dataclass(frozen=True)
class SecuredBroker:
    """A broker with a listener for passwords over TLS, and one for client certificates."""

    authority: Authority
    ports: dict[str, int]
    log: Path

    def by_password(self, mechanism: Any, password: str = PASSWORD, **tls: Any) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{self.ports['sasl']}",
            tls=TlsSettings(**{"enabled": True, "ca_file": self.authority.file, **tls}),
            sasl_mechanism=mechanism,
            sasl_username=USER,
            sasl_password=password,
        )

    def by_certificate(self, **files: Path) -> KafkaSettings:
        tls = TlsSettings(enabled=True, ca_file=self.authority.file, **files)
        return KafkaSettings(bootstrap_servers=f"127.0.0.1:{self.ports['mutual']}", tls=tls)


@contextmanager
def secured_broker(folder: Path) -> Iterator[SecuredBroker]:
    """Run the embedded broker with two more listeners."""
    authority = Authority(folder, "ours")
    files = authority.issue("broker")
    keystore = folder / "broker.pem"
    keystore.write_bytes(files["key_file"].read_bytes() + files["certificate_file"].read_bytes())
    layout = Layout(folder / "home")
    layout.prepare()
    ports = choose_ports(dict.fromkeys(("broker", "controller", "sasl", "mutual"), 0))
    configure_broker(layout, port=ports["broker"], controller_port=ports["controller"])
    values = {"user": USER, "password": PASSWORD, "keystore": keystore, "truststore": authority.file}
    with (layout.run / "kafka.properties").open("a") as file:
        file.write(_PROPERTIES.format(**ports, **values))
    jars = find_jars()
    format_storage(layout, jars)
    broker = SecuredBroker(authority, ports, folder / "broker.log")
    with broker.log.open("wb") as log:
        process = subprocess.Popen(broker_command(layout, jars), stdout=log, stderr=log)
    try:
        _add_scram_user(KafkaSettings(bootstrap_servers=f"127.0.0.1:{ports['broker']}"))
        yield broker
    finally:
        process.kill()
        process.wait(30)


def _add_scram_user(kafka: KafkaSettings) -> None:
    deadline = time.monotonic() + 60
    while not broker_answers(kafka):
        assert time.monotonic() < deadline, "the secured broker did not come up"
    with open_admin(kafka) as admin:
        user = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_256, PASSWORD)
        assert admin.alter_user_scram_credentials([user]) == {USER: None}


@contextmanager
def tls_relay(target: int, tls: TlsSettings) -> Iterator[int]:
    """End TLS on a port of its own, and hand the bytes on to a server of this machine that has none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls.ca_file))
    context.load_cert_chain(tls.certificate_file, tls.key_file)
    context.verify_mode = ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_NONE
    listening = socket.create_server(("127.0.0.1", 0))
    port = int(listening.getsockname()[1])
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # refused handshakes are what tests are after
    stopping = asyncio.Event()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.transport.abort()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, to_server), copy(from_server, writer))

    async def serve() -> None:
        async with await asyncio.start_server(relay, sock=listening, ssl=context):
            await stopping.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="tls-relay", daemon=True)
    thread.start()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(10)
