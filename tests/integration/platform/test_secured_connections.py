"""Kafka by TLS, passwords and client certificates: each client of ours gets in with them, and nowhere without."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import AlarmRaised, InstanceReceived, Severity
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.topics import ALARM_RAISED, INSTANCE_RECEIVED, TOPICS, Topic
from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.listener.announcer import Announcement, Announcer
from fetalmlops.platform.bus import Publisher, read_topic
from fetalmlops.platform.health import Health
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.provisioning import broker_answers, open_admin, provision_topics
from fetalmlops.platform.service import Service
from fetalmlops.platform.settings import KafkaSettings, Settings, TlsSettings
from fetalmlops.platform.streams import Delivery, Outcome, Stage, follow, process
from support.authority import Authority
from support.secured import PASSWORD, SecuredBroker, secured_broker

WRONG = "wrong-password-of-the-test"
PATIENCE_S = 40


@pytest.fixture(scope="module")
def broker(embedded: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker beside the shared one; with all topics, made over TLS."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as running:
        assert len(provision_topics(running.by_password("SCRAM-SHA-256"))) == len(TOPICS)
        yield running


@pytest.fixture(params=["PLAIN", "SCRAM-SHA-256", "certificate"])
def kafka(broker: SecuredBroker, request: pytest.FixtureRequest) -> KafkaSettings:
    if request.param == "certificate":
        return broker.by_certificate(**broker.authority.issue("client"))
    return broker.by_password(request.param)


def ways_that_are_refused(broker: SecuredBroker, foreign: Authority) -> dict[str, KafkaSettings]:
    return {
        "wrong password": broker.by_password("PLAIN", WRONG),
        "wrong SCRAM password": broker.by_password("SCRAM-SHA-256", WRONG),
        "unknown authority": broker.by_password("PLAIN", ca_file=foreign.file),
        "no certificate": broker.by_certificate(),
        "foreign certificate": broker.by_certificate(**foreign.issue("client")),
        "plaintext": broker.by_password("PLAIN", enabled=False, ca_file=None),
    }


def test_topics_are_made_written_and_read(kafka: KafkaSettings) -> None:
    topic = dataclasses.replace(INSTANCE_RECEIVED, name=f"test.{uuid.uuid4().hex}.v1", partitions=1)

    assert provision_topics(kafka, [topic]) == [f"{topic.name}: made with 1 partitions"]
    announced = announce(kafka, topic, Health("test"))
    asyncio.run(publish(kafka, topic))

    assert announced
    assert asyncio.run(read(kafka, topic)) == [b"announced", b"published"]


def test_a_stage_and_a_follower_run(
    embedded: Settings, kafka: KafkaSettings, samples: ModuleType, tmp_path: Path
) -> None:
    settings = embedded.model_copy(update={"kafka": kafka, "home": tmp_path})
    event = msgspec.structs.replace(samples.RECEIVED, content_id=uuid.uuid4().hex)
    what = uuid.uuid4().hex
    alarm = AlarmRaised(process="test", what=what, severity=Severity.WARNING, since=0, remedy="none")

    async def main() -> None:
        running = Running(settings)
        publisher = Publisher(kafka, Health("test"))
        for topic, value in ((INSTANCE_RECEIVED, event), (ALARM_RAISED, alarm)):
            envelope = Envelope(id=event_id(what, topic.name, []), type=topic.name, source="test", time_ms=0)
            await publisher.publish(topic, what, envelope, value)
        await publisher.stop()
        await running.until(lambda: event.content_id in running.handled and what in running.followed)

    asyncio.run(main())


def test_who_does_not_get_in_waits_and_says_so(
    embedded: Settings,
    broker: SecuredBroker,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.WARNING)  # of libraries, as in our processes: below it kafka-python tells its options
    refused = ways_that_are_refused(broker, Authority(tmp_path, "foreign"))
    assert [way for way, kafka in refused.items() if broker_answers(kafka, timeout_ms=500)] == []
    announcers = {way: Health(way) for way in refused}

    async def attempt(way: str, kafka: KafkaSettings) -> list[BaseException | None]:
        running = Running(embedded.model_copy(update={"kafka": kafka, "home": tmp_path}))
        announcing = asyncio.to_thread(announce, kafka, INSTANCE_RECEIVED, announcers[way], 1.0)
        attempts = (read(kafka, INSTANCE_RECEIVED), publish(kafka, INSTANCE_RECEIVED, give_up_s=0.5), announcing)
        *errors, announced = await asyncio.gather(*attempts, return_exceptions=True)
        healths = [announcers[way], *(service.health for service in running.services)]
        await running.until(lambda: all(map(waits_for_broker, healths)))
        assert announced is False
        return errors

    async def main() -> list[list[BaseException | None]]:
        return await asyncio.gather(*(attempt(way, kafka) for way, kafka in refused.items()))

    for errors in asyncio.run(main()):
        for error in errors:
            assert isinstance(error, TransientError)
            assert (error.dependency, error.everyone) == ("broker", True)
            assert "check that it runs and the kafka settings" in str(error)
            assert not any(secret in repr(error.__cause__) + str(error) for secret in (PASSWORD, WRONG))
    said = caplog.text + "".join(capfd.readouterr())
    assert "invalid credentials" in said
    assert [secret for secret in (PASSWORD, WRONG) if secret in said] == []


def test_a_file_that_is_no_certificate_is_told(broker: SecuredBroker, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----")
    for path in (garbage, tmp_path / "absent.pem"):
        kafka = broker.by_password("PLAIN", ca_file=path)
        for attempt in (publish(kafka, INSTANCE_RECEIVED), read(kafka, INSTANCE_RECEIVED)):
            with pytest.raises(SettingsError, match=r"the files of kafka\.tls"):
                asyncio.run(attempt)
        with pytest.raises(SettingsError, match=r"the files of kafka\.tls"), open_admin(kafka):
            pass


def test_a_process_ends_where_its_authorities_are_missing(broker: SecuredBroker, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fetalmlops.keeper"],
        env=environment(broker.by_password("PLAIN", ca_file=tmp_path / "absent.pem"), tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert "Expected the files of kafka.tls to be readable PEM files, got FileNotFoundError" in done.stderr
    assert PASSWORD not in done.stderr


def test_a_process_with_a_wrong_password_waits_says_so_and_stops_when_asked(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    kafka = broker.by_password("SCRAM-SHA-256", WRONG)
    child = subprocess.Popen(
        [sys.executable, "-m", "fetalmlops.keeper"],
        env=environment(kafka, tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr
    try:
        port = json.loads(child.stderr.readline())["health_port"]
        deadline = time.monotonic() + PATIENCE_S
        while "broker" not in (waiting := waits(port)):
            assert time.monotonic() < deadline, waiting
        child.send_signal(signal.SIGTERM)
        _, log = child.communicate(timeout=15)
    finally:
        child.kill()
    assert child.returncode == 0
    assert "invalid credentials" in log
    assert WRONG not in log


class Running:
    """A stage and a follower that run until they are told to stop."""

    def __init__(self, settings: Settings) -> None:
        self.handled: list[str] = []
        self.followed: list[str] = []
        name = f"stage-{uuid.uuid4().hex[:8]}"
        self.services = [Service(each, settings, Health(each)) for each in (name, "follower")]
        self._valkey = open_valkey(settings)
        stage = Stage(name=name, source=INSTANCE_RECEIVED, event=InstanceReceived, handle=self._handle)
        publisher = Publisher(settings.kafka, Health("alarms"))
        self._tasks = [
            asyncio.create_task(process(stage, self.services[0], open_objects(settings), self._valkey)),
            asyncio.create_task(
                follow(ALARM_RAISED, AlarmRaised, self._follow, self.services[1], publisher, every=True)
            ),
        ]

    async def until(self, condition: Any) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    assert not any(task.done() for task in self._tasks)
                    await asyncio.sleep(0.05)
        finally:
            for service in self.services:
                service.stopping.set()
            await asyncio.gather(*self._tasks)
            await self._valkey.aclose()

    async def _handle(self, delivery: Delivery[InstanceReceived]) -> Outcome:
        self.handled.append(delivery.event.content_id)
        return Outcome()

    async def _follow(self, delivery: Delivery[AlarmRaised]) -> bool:
        self.followed.append(delivery.event.what)
        return True


async def publish(kafka: KafkaSettings, topic: Topic, give_up_s: float | None = None) -> None:
    publisher = Publisher(kafka, Health("test"))
    await publisher.publish_raw(topic.name, b"key", b"published", [], give_up_s=give_up_s)
    await publisher.stop()


async def read(kafka: KafkaSettings, topic: Topic) -> list[bytes]:
    return [record.value async for record in read_topic(kafka, topic)]


def announce(kafka: KafkaSettings, topic: Topic, health: Health, patience_s: float = PATIENCE_S) -> bool:
    """Publish as the listener does; return whether the broker took it."""
    taken = threading.Event()
    announcer = Announcer(kafka, health)
    announcer.start()
    announcer.offer(Announcement(topic.name, b"key", b"announced", [], acknowledged=taken.set))
    announcer.stop(patience_s)
    return taken.is_set()


def waits_for_broker(health: Health) -> bool:
    return "broker" in [item["for"] for item in health.report()["waiting"]]


def waits(port: int) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    return [item["for"] for item in json.loads(body)["waiting"]]


def environment(kafka: KafkaSettings, home: Path) -> dict[str, str]:
    tls: TlsSettings = kafka.tls
    return {
        **os.environ,
        "FETALMLOPS_HOME": str(home / "home"),
        "FETALMLOPS_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "FETALMLOPS_KAFKA__TLS__ENABLED": "true",
        "FETALMLOPS_KAFKA__TLS__CA_FILE": str(tls.ca_file),
        "FETALMLOPS_KAFKA__SASL_MECHANISM": kafka.sasl_mechanism,
        "FETALMLOPS_KAFKA__SASL_USERNAME": kafka.sasl_username,
        "FETALMLOPS_KAFKA__SASL_PASSWORD": kafka.sasl_password.get_secret_value(),
    }
