"""Channels that no row of the table closes: identifiers planted in each, and searched for in every form they could take."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest

from fetalmlops.domain.deid import PROFILES, Deidentifier
from fetalmlops.domain.deid.rules.dates import DatePolicy
from fetalmlops.domain.errors import PermanentError
from support.channels import CHANNELS, KEPT_BY_FULL_DATES, REFUSED, searched
from support.deid import codes_for

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.deid import Profile


@pytest.fixture(params=sorted(PROFILES))
def engine(request: pytest.FixtureRequest, key: PseudonymKey) -> Deidentifier:
    profile: Profile = PROFILES[request.param]
    return Deidentifier(codes_for(profile, key), profile)


@pytest.mark.parametrize("name", CHANNELS)
def test_nothing_gets_out(engine: Deidentifier, name: str) -> None:
    for undefined in (False, True):
        made = CHANNELS[name]()
        made.undefined = undefined
        if name in REFUSED:
            with pytest.raises(PermanentError) as caught:
                engine.deidentify_bytes(made.part10())
            assert caught.value.reason == REFUSED[name]
            assert searched(str(caught.value).encode()) == []
        else:
            output, _ = engine.deidentify_bytes(made.part10())
            stays = KEPT_BY_FULL_DATES.get(name, ()) if engine.profile.dates is DatePolicy.FULL else ()
            assert [found for found in found_in(output) if not found.startswith(stays)] == []
            assert output[:128] == bytes(128)


@pytest.mark.parametrize("name", ["JPEG comments and application segments", "bytes after the compressed frame",
    "overlay bits above the stored ones", "JPEG 2000 comments", "offset tables"])  # fmt: skip
def test_nothing_gets_out_of_a_source_declared_clean(engine: Deidentifier, name: str) -> None:
    output, result = engine.deidentify_bytes(CHANNELS[name]().part10(), source_clean=True)
    assert result.report.pixel_action == "source_clean"
    assert found_in(output) == []


@pytest.mark.parametrize("name", CHANNELS)
def test_each_channel_holds_what_is_searched_for(name: str) -> None:
    assert searched(CHANNELS[name]().part10())


def found_in(output: bytes) -> list[str]:
    """Return what was found in an output and in its pixels: also as the bits and the bytes of deep ones."""
    places = [output, *_pixel_bytes(output)]
    assert not [element for element in pydicom.dcmread(io.BytesIO(output)).iterall() if element.tag.is_private]
    return [text for place in places for text in searched(place)]


def _pixel_bytes(output: bytes) -> list[bytes]:
    dataset = pydicom.dcmread(io.BytesIO(output))
    if "PixelData" not in dataset:
        return []
    pixels = dataset.pixel_array
    if pixels.dtype != np.uint16:
        return [pixels.tobytes()]
    bits = [np.packbits((pixels.reshape(-1) >> bit & 1).astype(np.uint8)).tobytes() for bit in range(16)]
    return [pixels.tobytes(), (pixels >> 8).astype(np.uint8).tobytes(), *bits]
