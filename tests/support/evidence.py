"""What tests of a whole system send to it, and what they read of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import ConsumerRecord
from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom.dimse_primitives import C_STORE

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope, Headers
from fetalmlops.domain.contracts.events import Event, EventQuarantined, InstanceClassified
from fetalmlops.domain.contracts.topics import (
    EVENT_QUARANTINED,
    EVENT_QUARANTINED_PHI,
    INSTANCE_CLASSIFIED,
    Topic,
)
from fetalmlops.domain.deid import Refusal
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.faults import Fault
from fetalmlops.platform.bus import Publisher, read_topic
from fetalmlops.platform.deid.keys import load_pseudonym_key
from fetalmlops.platform.embedded.configuration import recorded_ports
from fetalmlops.platform.health import Health
from fetalmlops.platform.settings import Settings
from support.deployment import Deployment
from support.otlp import OtlpReceiver

REASONS = frozenset(
    {fault.value for fault in Fault}
    | {refusal.value for refusal in Refusal}
    | {"schema", "envelope", "object-missing", "digest-mismatch", "context-mismatch", "file-meta", "deadly", "deadline"}
)
"""Every reason for which an instance or an event may be in quarantine; ``unexpected``, a defect, is none of them."""

E = TypeVar("E", bound=Event)

SERVICES = ("listener", "anonymizer", "normalizer", "inference", "classifier", "keeper", "gateway")


@dataclass(frozen=True)
class Shared:
    """A running system that several modules use, and where its spans go."""

    deployment: Deployment
    receiver: OtlpReceiver

    @property
    def settings(self) -> Settings:
        return self.deployment.settings


@dataclass(frozen=True)
class Raw:
    """A dataset to be sent byte by byte, whatever it holds."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset: bytes
    label: str = ""

    @classmethod
    def of_part10(cls, data: bytes, label: str = "") -> Raw:
        meta = dcmread(BytesIO(data), specific_tags=[], stop_before_pixels=True).file_meta
        return cls(
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
            data[132 + 12 + meta.FileMetaInformationGroupLength :],
            label,
        )

    def content_id(self, settings: Settings) -> str:
        return load_pseudonym_key(settings).content(self.transfer_syntax_uid, self.dataset)


def send_raw(items: Iterable[Raw], settings: Settings, *, calling: str = "FETALSIM") -> dict[Raw, int | None]:
    """Send datasets over one association, as they are; return each one's status, None where it was not negotiated."""
    items = list(items)
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    wanted = dict.fromkeys((item.sop_class_uid, item.transfer_syntax_uid) for item in items)
    contexts = [build_context(UID(sop_class), UID(syntax)) for sop_class, syntax in wanted]
    listener = settings.listener
    assoc = entity.associate("127.0.0.1", listener.port, contexts=contexts, ae_title=listener.ae_title)
    if not assoc.is_established:
        return dict.fromkeys(items)
    accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])): c.context_id for c in assoc.accepted_contexts}
    # The association's own thread must not take an answer: it is held once, before the first, since it looks up in between.
    assoc._reactor_checkpoint.clear()
    while not assoc._is_paused:
        time.sleep(0.001)
    try:
        statuses = {
            item: _store(assoc, item, accepted.get((item.sop_class_uid, item.transfer_syntax_uid))) for item in items
        }
    finally:
        assoc._reactor_checkpoint.set()
    assoc.release()
    return statuses


def _store(assoc: Any, item: Raw, context_id: int | None) -> int | None:
    if context_id is None:
        return None
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = UID(item.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(item.sop_instance_uid)
    request.Priority = 2
    request.DataSet = BytesIO(item.dataset)
    assoc.dimse.send_msg(request, context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    assert answer is not None, f"no answer to {item.label}"
    return int(answer.Status)


def records(settings: Settings, topic: Topic) -> list[ConsumerRecord]:
    """Return all records of a topic."""

    async def read() -> list[ConsumerRecord]:
        return [record async for record in read_topic(settings.kafka, topic)]

    return asyncio.run(read())


def results(settings: Settings) -> list[tuple[Envelope, InstanceClassified]]:
    """Return every readable result on the topic, repeated and superseded ones too."""
    return events(settings, INSTANCE_CLASSIFIED, InstanceClassified)


def entries(settings: Settings) -> list[EventQuarantined]:
    """Return every quarantine entry of both zones, without the twins, resolved ones too."""
    found = events(settings, EVENT_QUARANTINED_PHI, EventQuarantined)
    found += [item for item in events(settings, EVENT_QUARANTINED, EventQuarantined) if item[1].zone == "clean"]
    return [entry for _, entry in found]


def events(settings: Settings, topic: Topic, kind: type[E]) -> list[tuple[Envelope, E]]:
    """Return the readable events of a topic, with their envelopes."""
    found = []
    for record in records(settings, topic):
        try:
            found.append((Envelope.from_headers(record.headers), decode(kind, record.value)))
        except ContractError:
            continue
    return found


def publish(settings: Settings, *items: tuple[str, bytes | None, bytes | None, Headers]) -> None:
    """Publish records as they are: topic, key, value, headers."""

    async def send() -> None:
        publisher = Publisher(settings.kafka, Health("test"))
        for topic, key, value, headers in items:
            await publisher.publish_raw(topic, key, value, headers)
        await publisher.stop()

    asyncio.run(send())


def wait_until(condition: Callable[[], object], timeout: float, pause: float = 0.5) -> bool:
    """Wait for a condition; return whether it came true."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def ended(
    settings: Settings, contents: set[str], timeout: float = 240
) -> dict[str, InstanceClassified | EventQuarantined]:
    """Wait until every content has a result or a quarantine entry; return what each ended as."""
    found: dict[str, InstanceClassified | EventQuarantined] = {}

    def all_ended() -> bool:
        found.update({entry.content_id: entry for entry in entries(settings) if entry.content_id in contents})
        found.update({result.content_id: result for _, result in results(settings) if result.content_id in contents})
        return set(found) == contents

    wait_until(all_ended, timeout)
    return found


def fetch(deployment: Deployment, process: str, path: str) -> bytes:
    """Return what a process answers at its health endpoint."""
    port = recorded_ports(deployment.system.layout)[f"health.{process}"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return bytes(answer.read())


def pids(deployment: Deployment) -> dict[str, int]:
    """Return the supervised processes' ids: a process that was started again has another one."""
    return {name: state.pid for name, state in deployment.system.supervisor.states().items()}


def command(home: Path, *arguments: object, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command ``fetalmlops`` in a process of its own."""
    program = Path(sys.executable).with_name("fetalmlops")
    environment = {**os.environ, "FETALMLOPS_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [program, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
