"""Identifiers: deterministic, separated by kind and project, and free of what they stand for."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalmlops.domain.contracts.identifiers import PseudonymKey, event_id
from fetalmlops.domain.errors import SettingsError

KEY = PseudonymKey("demo", bytes(range(32)))


def test_kinds_and_projects_are_separated() -> None:
    values = {
        KEY.study("1.2"),
        KEY.series("1.2"),
        KEY.instance("1.2"),
        KEY.patient("1.2", ""),
        KEY.scanner("1.2", "", "", ""),
    }
    values.add(PseudonymKey("other", KEY.secret).study("1.2"))
    values.add(PseudonymKey("demo", bytes(32)).study("1.2"))
    assert len(values) == 7
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in values)


def test_patient_depends_on_issuer_and_not_on_padding() -> None:
    assert KEY.patient("A", "X") != KEY.patient("A", "Y")
    assert KEY.patient("A ", "X") == KEY.patient("A", "X")
    assert KEY.patient("AX", "") != KEY.patient("A", "X")


@given(st.binary(max_size=200), st.integers(0, 200))
def test_content_id_of_chunks_equals_that_of_the_whole(data: bytes, cut: int) -> None:
    hasher = KEY.content_hasher("1.2.840.10008.1.2.1")
    hasher.update(data[:cut])
    hasher.update(data[cut:])
    assert hasher.hexdigest()[:32] == KEY.content("1.2.840.10008.1.2.1", data)


def test_content_id_depends_on_transfer_syntax() -> None:
    assert KEY.content("1.2.840.10008.1.2", b"x") != KEY.content("1.2.840.10008.1.2.1", b"x")


@given(st.text(alphabet="0123456789.", max_size=64))
def test_uid_is_a_valid_uuid_derived_uid(uid: str) -> None:
    replaced = KEY.uid(uid)
    assert replaced.startswith("2.25.")
    assert len(replaced) <= 64
    assert uuid.UUID(int=int(replaced[5:])).version == 8


def test_event_id_is_decided_by_every_version_in_order() -> None:
    base = event_id("0" * 32, "stage", ["a", "b"])
    assert uuid.UUID(base).version == 8
    assert base == event_id("0" * 32, "stage", ["a", "b"])
    assert (
        len(
            {
                base,
                event_id("0" * 32, "stage", ["b", "a"]),
                event_id("1" * 32, "stage", ["a", "b"]),
                event_id("0" * 32, "s", ["a", "b"]),
            }
        )
        == 4
    )


def test_secret_of_another_length_is_refused_and_never_shown() -> None:
    with pytest.raises(SettingsError, match="32 bytes, got 5"):
        PseudonymKey("demo", b"short")
    assert "secret" not in repr(KEY)
