"""The head of a Part 10 file, checked against pydicom."""

from __future__ import annotations

import contextlib
from io import BytesIO
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from fetalmlops.domain.errors import ContractError
from fetalmlops.listener.contexts import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from fetalmlops.listener.part10 import MAX_HEAD_BYTES, PRIVATE_CREATOR, Head, Provenance, encode_head, read_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset


def test_pydicom_reads_what_was_written(
    head: Head, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    body = encode(dataset())
    read = dcmread(BytesIO(encode_head(head) + body))
    meta = read.file_meta
    assert meta.FileMetaInformationGroupLength == len(encode_head(head)) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (
        head.sop_class_uid,
        head.sop_instance_uid,
    )
    assert meta.TransferSyntaxUID == head.transfer_syntax_uid
    assert (meta.ImplementationClassUID, meta.ImplementationVersionName) == (
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION,
    )
    assert (meta.SourceApplicationEntityTitle, meta.SendingApplicationEntityTitle) == ("FETALSIM", "FETALSIM")
    assert meta.ReceivingApplicationEntityTitle == "FETALMLOPS"
    assert meta.PrivateInformationCreatorUID == PRIVATE_CREATOR
    assert msgspec.json.decode(meta.PrivateInformation.rstrip(b"\0"), type=Provenance) == head.provenance
    assert [element.tag for element in meta] == sorted(element.tag for element in meta)
    assert encode(read) == body


def test_the_head_is_read_back(head: Head) -> None:
    data = encode_head(head)
    assert read_head(data + b"dataset") == msgspec.structs.replace(head, length=len(data))


def test_the_longest_values_fit(head: Head) -> None:
    came = msgspec.structs.replace(
        head.provenance,
        peer="2001:db8:ffff:ffff:ffff:ffff:255.255.255.255%interface",
        calling_ae_title="A" * 16,
        called_ae_title="B" * 16,
        source="s" * 64,
        site="t" * 64,
        project="p" * 32,
    )
    data = encode_head(msgspec.structs.replace(head, sop_instance_uid="1" * 64, provenance=came))
    assert len(data) % 2 == 0
    assert len(data) < MAX_HEAD_BYTES
    assert read_head(data).provenance == came


def test_a_uid_of_any_length_leaves_the_head_even(head: Head) -> None:
    for length in range(1, 65):
        data = encode_head(msgspec.structs.replace(head, sop_instance_uid="1" * length))
        assert len(data) % 2 == 0
        assert read_head(data).sop_instance_uid == "1" * length


def test_names_obey_their_value_representations() -> None:
    assert len(IMPLEMENTATION_VERSION) <= 16
    for uid in (IMPLEMENTATION_CLASS_UID, PRIVATE_CREATOR):
        assert len(uid) <= 64
        assert uid.startswith("2.25.")


def test_a_head_of_another_writer_is_refused(head: Head) -> None:
    with pytest.raises(ContractError, match="private information"):
        read_head(encode_head(head).replace(PRIVATE_CREATOR.encode(), b"2.25.1" + b"\0" * (len(PRIVATE_CREATOR) - 6)))


@given(data=st.data())
def test_damage_is_refused_or_read(data: st.DataObject) -> None:
    came = Provenance(
        peer="", calling_ae_title="A", called_ae_title="B", arrival_ms=1, project="p", key="k", source="s", site="t"
    )
    whole = encode_head(Head(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid="1.2", provenance=came))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(128, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(ContractError):
        assert read_head(bytes(damaged[:cut])).length <= len(whole)
