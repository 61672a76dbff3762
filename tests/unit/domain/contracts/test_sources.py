"""Sources: who is who, and who is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fetalmlops.domain.contracts.planes import Lane, Purpose
from fetalmlops.domain.contracts.sources import (
    UNLISTED,
    PixelTrust,
    Source,
    Sources,
    UnlistedAction,
    ae_title_of,
)
from fetalmlops.domain.errors import SettingsError


def source(**values: Any) -> Source:
    return msgspec.convert({"id": "room-1", "ae_title": "SCANNER", "site": "north", **values}, Source)


def test_what_is_not_said_is_the_careful_choice() -> None:
    plain = source()
    assert (plain.purpose, plain.lane, plain.pixels) == (Purpose.CLINICAL, Lane.LIVE, PixelTrust.VALIDATE)
    assert Sources().unlisted is UnlistedAction.REJECT


@pytest.mark.parametrize(
    ("addresses", "address", "fits"),
    [
        ([], "203.0.113.9", True),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["192.0.2.0/24"], "192.0.2.200", True),
        (["192.0.2.9/24"], "192.0.2.1", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.5", True),
        (["2001:db8::/32"], "2001:db8::1%eth0", True),
        (["2001:db8::/32"], "192.0.2.1", False),
        (["192.0.2.0/24"], "not an address", False),
    ],
)
def test_a_caller_is_matched_by_its_address(addresses: list[str], address: str, fits: bool) -> None:
    found = Sources((source(addresses=addresses),)).match("SCANNER", address)
    assert (found is not None) is fits


@pytest.mark.parametrize(
    ("title", "fits"), [("SCANNER", True), (" SCANNER  ", True), ("scanner", False), ("OTHER", False)]
)
def test_an_ae_title_is_compared_without_its_padding_and_by_case(title: str, fits: bool) -> None:
    assert (Sources((source(),)).match(title, "192.0.2.1") is not None) is fits


def test_the_first_entry_that_fits_wins() -> None:
    narrow, wide = source(id="narrow", addresses=["192.0.2.7"]), source(id="wide")
    table = Sources((narrow, wide))
    assert [table.match("SCANNER", address) for address in ("192.0.2.7", "192.0.2.8")] == [narrow, wide]


def test_a_table_may_accept_who_is_not_listed() -> None:
    found = Sources(unlisted=UnlistedAction.ACCEPT).match("ANYONE ", "192.0.2.1")
    assert found is not None
    assert (found.id, found.site, found.ae_title, found.pixels) == (UNLISTED, UNLISTED, "ANYONE", PixelTrust.VALIDATE)


def test_a_source_is_found_by_its_id() -> None:
    table = Sources((source(), source(id="room-2")))
    assert table.get("room-2") == source(id="room-2")
    assert table.get("room-3") is None


@pytest.mark.parametrize(
    "values",
    [
        {"id": "Room 1"},
        {"id": ""},
        {"ae_title": ""},
        {"ae_title": "A" * 17},
        {"ae_title": "A\\B"},
        {"ae_title": "ÄE"},
        {"site": "No rth"},
        {"addresses": ["192.0.2.0/33"]},
        {"addresses": ["scanner.example"]},
        {"purpose": "curiosity"},
        {"lane": "fast"},
        {"pixels": "perhaps"},
        {"port": 0},
        {"quiet_time_s": 0},
        {"colour": "blue"},
    ],
)
def test_an_entry_that_is_not_valid_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        source(**values)


@pytest.mark.parametrize("entries", [(source(), source()), (source(id=UNLISTED),)])
def test_ids_name_one_source_each(entries: tuple[Source, ...]) -> None:
    with pytest.raises(SettingsError, match="unique"):
        Sources(entries)


def test_an_error_about_an_ae_title_does_not_quote_it() -> None:
    with pytest.raises(SettingsError) as error:
        ae_title_of("CANARY\\PATIENT")
    assert "CANARY" not in str(error.value)
