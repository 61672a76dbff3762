"""Keying tags: read in every encoding, and nothing else."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import msgspec
import pytest

from fetalmlops.domain.contracts.planes import Mode
from fetalmlops.domain.errors import PermanentError
from fetalmlops.listener.keying import KEYING_TAGS, read_keying
from fetalmlops.listener.part10 import Head, encode_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.listener.keying import Keying

IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)

Read = "Callable[..., Keying]"


@pytest.fixture
def read(head: Head, key: PseudonymKey) -> Callable[..., Keying]:
    def read_it(body: bytes, transfer_syntax: str = EXPLICIT) -> Keying:
        meta = msgspec.structs.replace(head, transfer_syntax_uid=transfer_syntax)
        return read_keying(BytesIO(encode_head(meta) + body), key, head.provenance)

    return read_it


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def test_the_event_is_keyed_alike_in_every_encoding(
    read: Read, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    found = [
        read(encode(dataset(), implicit=True), IMPLICIT),
        read(encode(dataset()), EXPLICIT),
        read(encode(dataset(), little=False), BIG),
        read(deflate(encode(dataset())), DEFLATED),
        read(encode(dataset()), "1.2.840.10008.1.2.4.50"),
    ]
    assert all(item == found[0] for item in found)


def test_identifiers_become_pseudonyms(
    read: Read, key: PseudonymKey, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    keying = read(encode(dataset(IssuerOfPatientID="CLINIC")))
    context = keying.context
    assert context.patient == key.patient("CANARY-0001", "CLINIC")
    assert context.study == key.study("1.2.826.0.1.3680043.10.2")
    assert context.series == key.series("1.2.826.0.1.3680043.10.3")
    assert context.instance == key.instance("1.2.826.0.1.3680043.10.1")
    assert context.scanner == key.scanner("Simulated", "S1", "CANARY-SERIAL", "1.0\\2.0")
    assert context.software == key.software("Simulated", "S1", "1.0\\2.0")
    assert (context.project, context.source, context.site, context.mode) == (
        "test",
        "simulator",
        "simulated",
        Mode.GREY,
    )
    text = msgspec.json.encode(context)
    assert b"CANARY" not in text
    assert b"1.2.826" not in text


@pytest.mark.parametrize("patient", [None, "", "UNKNOWN", "000000", "anonymous"])
def test_the_study_stands_in_for_a_patient_without_an_id(
    read: Read, key: PseudonymKey, dataset: Callable[..., Dataset], encode: Callable[..., bytes], patient: str | None
) -> None:
    context = read(encode(dataset(PatientID=patient))).context
    assert context.patient == key.study("1.2.826.0.1.3680043.10.2")


@pytest.mark.parametrize(
    ("present", "mode"), [(0, Mode.GREY), (1, Mode.COLOUR), (7, Mode.UNKNOWN), (None, Mode.UNKNOWN)]
)
@pytest.mark.parametrize("little", [True, False])
def test_the_mode_follows_ultrasound_color_data_present(
    read: Read,
    dataset: Callable[..., Dataset],
    encode: Callable[..., bytes],
    present: int | None,
    mode: Mode,
    *,
    little: bool,
) -> None:
    body = encode(dataset(UltrasoundColorDataPresent=present), little=little)
    assert read(body, EXPLICIT if little else BIG).context.mode is mode


def test_equipment_that_says_nothing_still_has_an_identity(
    read: Read, key: PseudonymKey, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    bare = dataset(Manufacturer=None, ManufacturerModelName=None, DeviceSerialNumber=None, SoftwareVersions=None)
    assert read(encode(bare)).context.scanner == key.scanner("", "", "", "")


@pytest.mark.parametrize("missing", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_without_its_uids_an_instance_cannot_be_keyed(
    read: Read, dataset: Callable[..., Dataset], encode: Callable[..., bytes], missing: str
) -> None:
    with pytest.raises(PermanentError) as error:
        read(encode(dataset(**{missing: None})))
    assert "CANARY" not in str(error.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a dataset at all, but text about CANARY^PATIENT-0001",
        struct.pack("<HH2sHI", 0x0008, 0x0016, b"UN", 0, 0xFFFFFFF0),
        struct.pack("<HH2sHI", 0x0009, 0x0010, b"SQ", 0, 0xFFFFFFFF)
        + (struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + struct.pack("<HH2sHI", 9, 16, b"SQ", 0, 0xFFFFFFFF))
        * 1000,
    ],
    ids=["empty", "text", "beyond the end", "nested 1,000 deep"],
)
def test_what_is_no_dataset_is_refused_without_a_value(read: Read, body: bytes) -> None:
    with pytest.raises(PermanentError) as error:
        read(body)
    assert "CANARY" not in str(error.value)


def test_a_deflated_dataset_that_cannot_be_inflated_is_refused(read: Read) -> None:
    with pytest.raises(PermanentError):
        read(b"\xff" * 100, DEFLATED)


def test_nothing_behind_the_last_tag_is_read(
    read: Read, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    whole = encode(dataset())
    last = whole.index(struct.pack("<HH2s", 0x0028, 0x0014, b"US")) + 10
    damaged = whole[:last] + struct.pack("<HH2sH", 0x0028, 0x0030, b"DS", 0) + b"\xff" * 50
    # Rows and Columns come before it; what is damaged comes behind.
    assert read(damaged) == read(whole)


def test_a_deflated_bomb_is_inflated_in_part_only(
    read: Read, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    body = (
        encode(dataset(PixelData=None, BitsAllocated=8))
        + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 64 << 20)
        + bytes(64 << 20)
    )
    assert read(deflate(body), DEFLATED) == read(encode(dataset()))


def test_only_documented_tags_key_an_event() -> None:
    assert max(KEYING_TAGS) == 0x0028_0014
    assert 0x0010_0010 not in KEYING_TAGS
