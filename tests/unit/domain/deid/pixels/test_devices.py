"""A device profile proves pixels of exactly its device, and of no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pydicom
import pytest

from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.deid.pixels.devices import Device, DeviceProfile, DeviceProfiles, parse_device_profile
from fetalmlops.domain.errors import PermanentError, SettingsError
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.contracts.identifiers import PseudonymKey

TOML = """\
name = "canary-scanner"
version = 1
rectangles = [[8, 10, 72, 50]]

[device]
manufacturer = "CANARY MAKER"
model = "CANARY MODEL"
software = "1.0\\\\2.0"
rows = 60
columns = 80
photometric = "MONOCHROME2"
"""
PROFILE = parse_device_profile(TOML, "test.toml")


def unproven(files: ModuleType, **changes: bytes) -> Any:
    """Return an image of the device without regions."""
    sample = files.make_sample()
    del sample.attributes[0x0018_6011]
    words = {"manufacturer": b"CANARY MAKER", "model": b"CANARY MODEL ", "software": b"1.0\\2.0"} | changes
    sample.attributes[0x0008_0070] = ("LO", words["manufacturer"])
    sample.attributes[0x0008_1090] = ("LO", words["model"])
    sample.attributes[0x0018_1020] = ("LO", words["software"])
    return sample


@pytest.fixture
def with_profile(key: PseudonymKey) -> Deidentifier:
    return Deidentifier(key, devices=DeviceProfiles([PROFILE]))


def test_the_profile_of_the_device_proves_its_pixels(files: ModuleType, with_profile: Deidentifier) -> None:
    sample = unproven(files)
    output, result = with_profile.deidentify_bytes(sample.part10())
    clean = np.frombuffer(output[-4800:], np.uint8).reshape(60, 80)
    original = np.frombuffer(sample.pixels, np.uint8).reshape(60, 80)
    assert np.array_equal(clean[10:50, 8:72], original[10:50, 8:72])
    assert np.count_nonzero(clean) == 40 * 64
    report = result.report
    assert (report.pixel_action, report.device_profile) == ("device_profile", PROFILE.digest)
    assert report.rectangles == [(8, 10, 72, 50)]
    assert b"CANARY" not in output
    assert b"CANARY" not in msgspec.json.encode(report)
    assert "device" in pydicom.dcmread(__import__("io").BytesIO(output)).DerivationDescription


@pytest.mark.parametrize(
    "change",
    [
        {"manufacturer": b"CANARY MAKERS"},
        {"model": b"CANARY MODEL 2"},
        {"software": b"1.0"},
        {"software": b"1.0\\2.1"},
        {"software": b""},
        {"model": b"CANARY MOD\xc9L"},
    ],
)
def test_another_device_is_not_proven(files: ModuleType, with_profile: Deidentifier, change: dict[str, bytes]) -> None:
    with pytest.raises(PermanentError) as error:
        with_profile.deidentify_bytes(unproven(files, **change).part10())
    assert error.value.reason == "pixels-unproven"
    assert "CANARY" not in str(error.value)


def test_another_size_or_colour_is_not_proven(files: ModuleType, key: PseudonymKey) -> None:
    for device in (
        {"rows": 61},
        {"columns": 81},
        {"photometric": Photometric.MONOCHROME1},
    ):
        other = msgspec.structs.replace(PROFILE, device=msgspec.structs.replace(PROFILE.device, **device))
        with pytest.raises(PermanentError) as error:
            Deidentifier(key, devices=DeviceProfiles([other])).deidentify_bytes(unproven(files).part10())
        assert error.value.reason == "pixels-unproven"


def test_regions_come_first(files: ModuleType, with_profile: Deidentifier) -> None:
    sample = unproven(files)
    sample.attributes[0x0018_6011] = ("SQ", [files.region(20, 20, 59, 49)])
    _, result = with_profile.deidentify_bytes(sample.part10())
    assert (result.report.pixel_action, result.report.device_profile) == ("regions", "")
    assert result.report.rectangles == [(20, 20, 60, 50)]


def test_a_profile_proves_secondary_captures_too(files: ModuleType, with_profile: Deidentifier) -> None:
    sample = unproven(files)
    sample.attributes[0x0008_0016] = ("UI", b"1.2.840.10008.5.1.4.1.1.7")
    _, result = with_profile.deidentify_bytes(sample.part10())
    assert result.report.pixel_action == "device_profile"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("version = 1", "", "version"),
        ("version = 1", "version = 0", "version"),
        ('name = "canary-scanner"', 'name = "Canary Scanner"', "name"),
        ("[[8, 10, 72, 50]]", "[]", "rectangles"),
        ("[[8, 10, 72, 50]]", "[[8, 10, 81, 50]]", "within 80 x 60"),
        ("[[8, 10, 72, 50]]", "[[8, 10, 8, 50]]", "number 1"),
        ("[[8, 10, 72, 50]]", "[[8, 10, 23, 50]]", "16 pixels"),
        ("[[8, 10, 72, 50]]", "[[8, 10, 40, 50], [8, 50, 40, 10]]", "number 2"),
        ("[[8, 10, 72, 50]]", "[[0, 0, 80, 60]]", "whole image"),
        ('photometric = "MONOCHROME2"', 'photometric = "PURPLE"', "photometric"),
        ("rows = 60", "rows = 60\nserial = 4", "serial"),
        ("rows = 60", "rows = ", "TOML"),
    ],
)
def test_flaws_are_named(old: str, new: str, says: str) -> None:
    assert old in TOML
    with pytest.raises(SettingsError) as error:
        parse_device_profile(TOML.replace(old, new), "devices/test.toml")
    assert says in str(error.value)
    assert "devices/test.toml" in str(error.value)


def test_two_profiles_of_one_device_are_refused() -> None:
    with pytest.raises(SettingsError, match="one profile a device"):
        DeviceProfiles([PROFILE, msgspec.structs.replace(PROFILE, name="other")])


def test_digests_show_every_change_and_no_order() -> None:
    other = msgspec.structs.replace(PROFILE, device=msgspec.structs.replace(PROFILE.device, rows=600))
    assert DeviceProfiles([PROFILE, other]).digest == DeviceProfiles([other, PROFILE]).digest
    assert DeviceProfiles().digest == ""
    digests = {PROFILE.digest, other.digest, msgspec.structs.replace(PROFILE, version=2).digest}
    assert len(digests) == 3
    assert isinstance(PROFILE, DeviceProfile)
    assert isinstance(PROFILE.device, Device)
