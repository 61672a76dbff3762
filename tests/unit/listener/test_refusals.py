"""Instances that the storage provider refuses, each with its status, over real connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fetalmlops.listener.statuses import Status
from support.wire import INSTANCE, STORE, ULTRASOUND, command, message, store_with_uid

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

    Make = Callable[..., Dataset]
    Encode = Callable[..., bytes]


@pytest.mark.parametrize("values", [{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, {"SOPInstanceUID": "1.2.3"}])
def test_a_dataset_of_another_class_or_instance_is_a_mismatch(
    listener: Any, dataset: Make, encode: Encode, values: dict[str, str]
) -> None:
    sender, parts = listener.associate(), listener.parts
    assert sender.store(encode(dataset(**values))) == 0xA900
    assert parts.files("phi") == []
    assert parts.announced() == []


def test_a_request_for_another_class_than_the_context_is_refused(listener: Any, dataset: Make, encode: Encode) -> None:
    sender = listener.associate()
    assert sender.store(encode(dataset()), sop_class="1.2.840.10008.5.1.4.1.1.7") == 0x0122
    assert sender.store(encode(dataset())) == 0x0000


def test_a_malformed_instance_uid_is_refused(
    listener: Any, dataset: Make, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    sender = listener.associate()
    sender.send(message(STORE, store_with_uid(b"1.2.x\0"), encode(dataset())))
    answer = sender.response()
    assert (answer.Status, answer.ErrorComment) == (0x0117, Status.INVALID_INSTANCE.comment)
    assert listener.parts.files("phi") == []
    assert [record.name for record in caplog.records if "dicom" in record.name] == []


def test_a_source_that_is_struck_off_is_no_longer_authorised(listener: Any, dataset: Make, encode: Encode) -> None:
    sender, parts = listener.associate(), listener.parts
    assert sender.store(encode(dataset())) == 0x0000
    (parts.home / "sources.toml").write_text("")
    assert sender.store(encode(dataset(Manufacturer="Two"))) == 0x0124
    assert len(parts.files("phi/instances")) == 1


def test_without_room_the_sender_is_told_to_come_again(
    listen: Callable[..., Any], dataset: Make, encode: Encode
) -> None:
    listener = listen(reserve_bytes=1 << 60)
    assert listener.associate().store(encode(dataset(PixelData=bytes(300_000)))) == 0xA700
    assert listener.parts.files("phi") == []
    assert listener.parts.incoming() == []


def test_a_dataset_that_is_too_long_is_refused_and_not_kept(
    listen: Callable[..., Any], dataset: Make, encode: Encode
) -> None:
    listener = listen(max_instance_bytes=100_000)
    sender = listener.associate()
    assert sender.store(encode(dataset(PixelData=bytes(200_000)))) == 0xC001
    assert listener.parts.incoming() == []
    assert sender.store(encode(dataset())) == 0x0000


def test_an_instance_without_a_dataset_is_not_understood(listener: Any) -> None:
    sender = listener.associate()
    values = {"AffectedSOPClassUID": ULTRASOUND, "AffectedSOPInstanceUID": INSTANCE, "Priority": 0}
    sender.send(message(STORE, command(1, **values)))
    assert sender.response().Status == 0xC000


def test_a_defect_fails_one_instance(
    listener: Any, dataset: Make, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, objects = listener.associate(), listener.parts.objects
    with monkeypatch.context() as broken:
        broken.setattr(type(objects), "add_file", lambda *_, **__: 1 / 0)
        assert sender.store(encode(dataset())) == 0x0110
    assert sender.store(encode(dataset())) == 0x0000


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.SUCCESS])
def test_every_failure_says_why(status: Status) -> None:
    assert 0 < len(status.comment) <= 64
