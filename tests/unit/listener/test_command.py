"""DIMSE command sets, checked against pydicom and pynetdicom."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.dsutils import encode as encode_dataset

from fetalmlops.domain.errors import ContractError
from fetalmlops.listener.command import ECHO_REQUEST, STORE_REQUEST, Command, Status, encode_response, read_command

STORE = Command(STORE_REQUEST, 513, dataset_follows=True, sop_class_uid="1.2.840.1", sop_instance_uid="1.2.3")


def test_a_request_of_pynetdicom_is_read() -> None:
    primitive = C_STORE()
    primitive.MessageID = 513
    primitive.AffectedSOPClassUID = "1.2.840.1"
    primitive.AffectedSOPInstanceUID = "1.2.3"
    primitive.Priority = 1
    primitive.DataSet = BytesIO(b"a dataset")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    data = encode_dataset(message.command_set, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    assert read_command(data) == STORE


@pytest.mark.parametrize("status", list(Status))
def test_a_response_is_readable_by_pydicom(status: Status) -> None:
    response = decode(BytesIO(encode_response(STORE, status)), is_implicit_vr=True, is_little_endian=True)
    assert response.CommandGroupLength == len(encode_response(STORE, status)) - 12
    assert (response.CommandField, response.MessageIDBeingRespondedTo) == (0x8001, 513)
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == ("1.2.840.1", "1.2.3")
    assert (response.CommandDataSetType, response.Status) == (0x0101, status)
    assert response.get("ErrorComment", "") == status.comment
    assert len(status.comment) <= 64
    assert all(element.tag.group == 0 for element in response)
    assert [element.tag for element in response] == sorted(element.tag for element in response)


def test_every_failure_says_why() -> None:
    assert all(status.comment for status in Status if status is not Status.SUCCESS)


def test_an_echo_is_answered_without_uids_that_were_not_sent() -> None:
    response = decode(
        BytesIO(encode_response(Command(ECHO_REQUEST, 1, dataset_follows=False), Status.SUCCESS)),
        is_implicit_vr=True,
        is_little_endian=True,
    )
    assert "AffectedSOPInstanceUID" not in response


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        struct.pack("<HHI", 0, 0x100, 2) + b"\1",
        struct.pack("<HHI", 0, 0x100, 0xFFFFFFFF),
        struct.pack("<HHI", 8, 0x100, 2) + b"\1\0",
        struct.pack("<HHI", 0, 0x100, 2) + b"\1\0",
        struct.pack("<HHIHHHII", 0, 0x100, 2, 1, 0, 0x800, 4, 1),
    ],
    ids=["empty", "short head", "short value", "endless value", "other group", "no dataset type", "long number"],
)
def test_what_is_no_command_set_is_refused(data: bytes) -> None:
    with pytest.raises(ContractError):
        read_command(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ContractError):
        assert 0 <= read_command(data).field <= 0xFFFF
