"""A listener's parts on a real object store in a folder, without a broker."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.listener.announcer import Announcement, Announcer
from fetalmlops.listener.part10 import Head, Provenance
from fetalmlops.listener.reception import Intake
from fetalmlops.listener.scp import StorageProvider
from fetalmlops.platform.dicom.sources import SourcesFile, write_default_sources
from fetalmlops.platform.health import Health
from fetalmlops.platform.objects import ObjectStore, open_objects
from fetalmlops.platform.settings import KafkaSettings, ListenerSettings, Settings
from support.wire import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXPLICIT = "1.2.840.10008.1.2.1"
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"


def _dataset(**values: Any) -> Dataset:
    dataset = Dataset()
    defaults = {
        "SOPClassUID": ULTRASOUND,
        "SOPInstanceUID": "1.2.826.0.1.3680043.10.1",
        "StudyInstanceUID": "1.2.826.0.1.3680043.10.2",
        "SeriesInstanceUID": "1.2.826.0.1.3680043.10.3",
        "PatientID": "CANARY-0001",
        "PatientName": "CANARY^PATIENT-0001",
        "Manufacturer": "Simulated",
        "ManufacturerModelName": "S1",
        "DeviceSerialNumber": "CANARY-SERIAL",
        "SoftwareVersions": ["1.0", "2.0"],
        "UltrasoundColorDataPresent": 0,
        "Rows": 4,
        "Columns": 4,
        "PixelData": bytes(range(16)),
    }
    for name, value in {**defaults, **values}.items():
        if value is not None:
            setattr(dataset, name, value)
    return dataset


def _encode(dataset: Dataset, *, implicit: bool = False, little: bool = True) -> bytes:
    buffer = BytesIO()
    file = DicomFileLike(buffer)
    file.is_implicit_VR, file.is_little_endian = implicit, little
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB"
    write_dataset(file, dataset)
    return buffer.getvalue()


@dataclass
class Parts:
    """The parts, and what they announced."""

    intake: Intake
    objects: ObjectStore
    key: PseudonymKey
    home: Path
    announced: Callable[[], list[Announcement]] = field(repr=False)

    def files(self, prefix: str) -> list[str]:
        return sorted(item.uri for item in self.objects.walk(prefix))

    def incoming(self) -> list[Path]:
        return list((self.home / "objects" / "phi" / ".incoming").glob("*"))


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    """Make a small dataset; a value of None leaves the attribute out."""
    return _dataset


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Encode a dataset as it travels."""
    return _encode


@pytest.fixture
def key() -> PseudonymKey:
    return PseudonymKey("test", bytes(range(32)))


@pytest.fixture
def came(key: PseudonymKey) -> Provenance:
    return Provenance(
        peer="192.0.2.7",
        calling_ae_title="FETALSIM",
        called_ae_title="FETALMLOPS",
        arrival_ms=1_700_000_000_123,
        project=key.project,
        key=key.fingerprint,
        source="simulator",
        site="simulated",
        traceparent=f"00-{'1' * 32}-{'2' * 16}-01",
    )


@pytest.fixture
def head(came: Provenance) -> Head:
    return Head(
        sop_class_uid=ULTRASOUND,
        sop_instance_uid="1.2.826.0.1.3680043.10.1",
        transfer_syntax_uid=EXPLICIT,
        provenance=came,
    )


@pytest.fixture
def make_parts(tmp_path: Path, key: PseudonymKey) -> Callable[..., Parts]:
    """Make the parts with listener settings of your own; nothing listens and nothing is published."""

    def make(*, capacity: int = 100, **listener: Any) -> Parts:
        settings = Settings(home=tmp_path)
        write_default_sources(settings.sources_file)
        objects = open_objects(settings)
        health = Health("listener")
        announcer = Announcer(KafkaSettings(), health, capacity=capacity)
        chosen = ListenerSettings(**{"port": 0, "reserve_bytes": 0, **listener})
        sources = SourcesFile(settings.sources_file, check_every_s=0)
        intake = Intake(chosen, key, objects, sources, announcer, health)
        return Parts(intake, objects, key, tmp_path, lambda: list(announcer._waiting))

    return make


@pytest.fixture
def parts(make_parts: Callable[..., Parts]) -> Parts:
    return make_parts()


@dataclass
class Listener:
    """A storage provider that listens."""

    provider: StorageProvider
    parts: Parts
    senders: contextlib.ExitStack

    def connect(self, address: str = "127.0.0.1") -> Sender:
        place = ("127.0.0.1", self.provider.port)
        connection = socket.create_connection(place, timeout=60, source_address=(address, 0))
        return Sender(self.senders.enter_context(connection))

    def associate(self) -> Sender:
        sender = self.connect()
        sender.associate()
        return sender

    def wait_until_quiet(self) -> None:
        """Wait until no association is left, nor a thread of one."""
        end = time.monotonic() + 60
        while left := _association_threads():
            assert time.monotonic() < end, left
            time.sleep(0.01)


@pytest.fixture
def listen(make_parts: Callable[..., Parts]) -> Iterator[Callable[..., Listener]]:
    """Listen with settings of your own; at the end nothing of any association may be left."""
    with contextlib.ExitStack() as stack:

        def start(*, capacity: int = 100, **settings: Any) -> Listener:
            parts = make_parts(capacity=capacity, **settings)
            listener = Listener(StorageProvider(parts.intake), parts, contextlib.ExitStack())
            listener.provider.start()
            stack.callback(_stop, listener)
            return listener

        yield start


@pytest.fixture
def listener(listen: Callable[..., Listener]) -> Listener:
    return listen()


def _stop(listener: Listener) -> None:
    listener.senders.close()
    listener.wait_until_quiet()
    listener.provider.stop(0)
    assert listener.parts.incoming() == []


def _association_threads() -> list[threading.Thread]:
    ours = [item for item in threading.enumerate() if "Acceptor" in item.name or "process_request" in item.name]
    return [*ours, *(item for item in threading.enumerate() if type(item).__name__ == "UpperLayer")]
