"""The reader takes what is plainly DICOM and refuses the rest, without reading or allocating what a length claims."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from fetalmlops.domain.deid.files import reader
from fetalmlops.domain.deid.files.reader import MAX_DEPTH, read_header
from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from types import ModuleType

PATIENT_ID, REGIONS, X0 = 0x0010_0020, 0x0018_6011, 0x0018_6018
WANTED: Any = {PATIENT_ID: None, REGIONS: {X0: None}}


def read(part10: bytes, **options: Any) -> Any:
    return read_header(io.BytesIO(part10), WANTED, **options)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", ["EXPLICIT", "IMPLICIT", "BIG", "DEFLATED"])
def test_what_is_wanted_is_read_in_every_encoding(files: ModuleType, syntax: str, undefined: bool) -> None:
    sample = files.make_sample(getattr(files, syntax))
    sample.undefined = undefined
    header = read(sample.part10())
    assert header.dataset.values[PATIENT_ID].data.strip() == b"CANARY-ID-1"
    value = header.dataset.items[REGIONS][0].values[X0]
    assert int.from_bytes(value.data, "little" if value.little else "big") == 8
    assert len(header.dataset.tags) == len(sample.attributes)
    assert header.pixels.length == 60 * 80


def test_nothing_is_read_past_the_last_tag_of_interest(files: ModuleType) -> None:
    sample = files.make_sample()
    broken = sample.part10().replace(b"\x28\x00\x04\x00CS", b"\x28\x00\x04\x00??")
    assert read(broken, stop_after=REGIONS).dataset.values
    with pytest.raises(PermanentError):
        read(broken)


def test_large_values_that_are_not_wanted_are_stepped_over(files: ModuleType) -> None:
    sample = files.make_sample()
    sample.attributes[0x0009_1001] = ("OB", bytes(8 << 20))
    part10 = io.BytesIO(sample.part10())
    tracemalloc.start()
    read_header(part10, WANTED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_large_values_that_are_wanted_are_refused(files: ModuleType) -> None:
    sample = files.make_sample()
    sample.attributes[PATIENT_ID] = ("UN", bytes(2 << 20))
    with pytest.raises(PermanentError) as error:
        read(sample.part10())
    assert error.value.reason == "too-large"


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH + 1, 1000])
def test_nesting_is_bounded(files: ModuleType, depth: int) -> None:
    sample = files.make_sample()
    inside = b""
    for _ in range(depth):
        inside = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inside + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        inside = (
            struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF) + inside + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        )
    sample.pixels = b""
    part10 = sample.part10() + inside
    if depth < MAX_DEPTH:
        assert read(part10).dataset.values
        return
    with pytest.raises(PermanentError, match="nested at most"):
        read(part10)


def test_a_file_of_nothing_but_elements_is_refused(monkeypatch: pytest.MonkeyPatch, files: ModuleType) -> None:
    monkeypatch.setattr("fetalmlops.domain.deid.files.reader.MAX_ELEMENTS", 1000)
    part10 = files.make_sample().part10().rpartition(b"\xe0\x7f\x10\x00")[0] + b"\xdf\x7f\x11\0LO\0\0" * 2000
    with pytest.raises(PermanentError) as error:
        read(part10)
    assert error.value.reason == "too-large"


def test_a_deflated_bomb_is_refused(monkeypatch: pytest.MonkeyPatch, files: ModuleType) -> None:
    monkeypatch.setattr("fetalmlops.domain.deid.files.reader.MAX_INFLATED_BYTES", 1 << 20)
    sample = files.make_sample(files.DEFLATED)
    sample.pixels = bytes(4 << 20)
    with pytest.raises(PermanentError) as error:
        read(sample.part10())
    assert error.value.reason == "too-large"


def twice(files: ModuleType) -> bytes:
    again: bytes = files.Encoding().element(PATIENT_ID, "LO", b"CANARY-ID-2")
    part10: bytes = files.make_sample().part10()
    place = part10.index(b"\x18\x00\x11\x60SQ")
    return part10[:place] + again + part10[place:]


def with_tail(files: ModuleType, tail: bytes) -> bytes:
    sample = files.make_sample()
    sample.pixels = b""
    part10: bytes = sample.part10() + tail
    return part10


@pytest.mark.parametrize(
    "make",
    [
        lambda _: b"",
        lambda _: bytes(200),
        lambda files: files.make_sample().part10()[132:],
        lambda files: files.make_sample().part10()[:400],
        lambda files: bytes(128) + b"DICM" + files.Encoding().element(0x0002_0000, "UL", files.u32(4_000_000_000)),
        lambda files: bytes(128) + b"DICM" + files.Encoding().dataset({PATIENT_ID: ("LO", b"X")}),
        twice,
        lambda files: with_tail(files, struct.pack("<HH2sHI", 0x7FDF, 0x11, b"OB", 0, 4_000_000_000)),
        lambda files: with_tail(files, struct.pack("<HH2sHI", 0x7FDF, 0x11, b"UT", 0, 0xFFFFFFFF)),
        lambda files: with_tail(files, struct.pack("<HH2sH", 0x7FDF, 0x11, b"ZZ", 0)),
        lambda files: with_tail(files, struct.pack("<HHI", 0xFFFE, 0xE00D, 0)),
        lambda files: with_tail(files, struct.pack("<HH2sH", 0x0002, 0x10, b"UI", 0)),
        lambda files: with_tail(files, struct.pack("<HH2sHI", 0x7FDF, 0x11, b"SQ", 0, 0xFFFFFFFF)),
        lambda files: with_tail(files, struct.pack("<HH2sHI", 0x7FDF, 0x11, b"OB", 0, 0xFFFFFFFF) + bytes(16)),
        lambda files: files.make_sample(files.DEFLATED).part10()[:-9],
    ],
    ids=[
        "empty",
        "no prefix",
        "dataset only",
        "broken off",
        "meta longer than file",
        "no meta",
        "attribute twice",
        "longer than file",
        "undefined text",
        "unknown representation",
        "stray delimiter",
        "meta in dataset",
        "open sequence",
        "open fragments",
        "broken deflate",
    ],
)
def test_what_is_not_plainly_dicom_is_refused(files: ModuleType, make: Any) -> None:
    with pytest.raises((PermanentError, zlib.error)) as error:
        read(make(files))
    assert "CANARY" not in str(error.value)


def test_fragments_in_an_icon_are_stepped_over(files: ModuleType) -> None:
    fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, 4) + b"abcd"
    icon = (
        struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + fragments + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + icon + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    sequence = struct.pack("<HH2sHI", 0x88, 0x200, b"SQ", 0, 0xFFFFFFFF) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    last = files.Encoding().element(0x2050_0020, "CS", b"IDENTITY")
    header = read(with_tail(files, sequence + last))
    assert header.dataset.tags[-1] == 0x2050_0020


CONTENT, TEXT_VALUE, NUMBER = 0x0040_A730, 0x0040_A160, 0x0040_A30A
TREE: Any = {TEXT_VALUE: 8, NUMBER: 16}
TREE[CONTENT] = TREE


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", ["EXPLICIT", "IMPLICIT", "BIG", "DEFLATED"])
def test_a_tree_is_read_to_its_leaves(files: ModuleType, syntax: str, undefined: bool) -> None:
    sample = files.make_sample(getattr(files, syntax))
    sample.undefined = undefined
    tree: dict[int, Any] = {NUMBER: ("DS", b"5")}
    for _ in range(MAX_DEPTH - 1):
        tree = {CONTENT: ("SQ", [tree])}
    sample.attributes |= tree
    item, depth = read_header(io.BytesIO(sample.part10()), TREE).dataset, 0
    while CONTENT in item.items:
        (item,), depth = item.items[CONTENT], depth + 1
    assert depth == MAX_DEPTH - 1
    assert item.values[NUMBER].data.strip() == b"5"


@pytest.mark.parametrize("value", [("UT", b"123456789"), ("SQ", [{PATIENT_ID: ("LO", b"X")}]), ("SQ", [])])
@pytest.mark.parametrize("undefined", [False, True])
def test_what_is_longer_than_wanted_or_a_sequence_is_stepped_over(
    files: ModuleType, value: Any, undefined: bool
) -> None:
    sample = files.make_sample()
    sample.undefined = undefined
    sample.attributes |= {TEXT_VALUE: value, NUMBER: ("DS", b"5")}
    dataset = read_header(io.BytesIO(sample.part10()), TREE).dataset
    assert set(dataset.values) == {NUMBER}
    assert not dataset.items


def test_the_items_and_the_bytes_that_are_read_are_bounded(files: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = files.make_sample()
    sample.attributes[CONTENT] = ("SQ", [{TEXT_VALUE: ("UT", b"12345678")}] * 100)
    for name, limit in (("MAX_ITEMS", 100), ("MAX_WANTED_BYTES", 800)):
        with monkeypatch.context() as changed:
            changed.setattr(reader, name, limit)
            assert len(read_header(io.BytesIO(sample.part10()), TREE).dataset.items[CONTENT]) == 100
            changed.setattr(reader, name, limit - 1)
            with pytest.raises(PermanentError, match=f"at most {limit - 1}") as error:
                read_header(io.BytesIO(sample.part10()), TREE)
            assert error.value.reason == "too-large"
