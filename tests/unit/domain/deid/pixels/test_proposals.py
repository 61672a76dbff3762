"""A proposed profile keeps the picture and none of the screen around it; images that do not agree are refused."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.deid.pixels.devices import Device, parse_device_profile
from fetalmlops.domain.deid.pixels.proposals import Screen, propose, propose_profile, read_screen
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.layout import Photometric
from fetalmlops.domain.simulation import SCANNERS, InstanceSpec, make_instance

if TYPE_CHECKING:
    from pathlib import Path

    from fetalmlops.domain.simulation import Scanner

DEVICE = Device(manufacturer="M", model="N", software="1", rows=200, columns=300, photometric=Photometric.MONOCHROME2)
OTHER = Screen(
    msgspec.structs.replace(DEVICE, software="CANARY", photometric=Photometric.RGB), np.zeros((200, 300), np.uint8)
)
PLANES = list(Plane)[:5]


def screens(count: int = 4, **places: tuple[int, int, int, int]) -> list[Screen]:
    """Return screens of the same furniture whose places change from image to image."""
    random = np.random.default_rng(3)
    furniture = np.zeros((200, 300), np.uint8)
    furniture[10:14, 20:290] = 180
    made = []
    for _ in range(count):
        grey = furniture.copy()
        for x0, y0, x1, y1 in places.values():
            grey[y0:y1, x0:x1] = random.integers(0, 255, (y1 - y0, x1 - x0), np.uint8)
        made.append(Screen(DEVICE, grey))
    return made


def test_the_picture_is_what_changes_and_lines_of_text_are_not() -> None:
    made = screens(picture=(60, 40, 240, 180), name=(20, 14, 120, 24))
    assert propose_profile(made, "scanner").rectangles == ((60, 40, 240, 180),)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (screens(2, picture=(60, 40, 240, 180)), "at least 3"),
        (screens(4), "an area that changes"),
        (screens(4, picture=(0, 0, 300, 200)), "of the screen"),
        (screens(4, one=(10, 40, 110, 180), other=(160, 40, 280, 180)), "several large ones"),
        (
            [*screens(3, picture=(60, 40, 240, 180)), OTHER],
            "differ in software, photometric",
        ),
    ],
    ids=["few", "still", "whole", "two", "devices"],
)
def test_images_that_do_not_agree_are_refused(made: list[Screen], says: str) -> None:
    with pytest.raises(ContractError, match=says) as error:
        propose_profile(made, "scanner")
    assert "CANARY" not in str(error.value)


def simulated(scanner: Scanner) -> list[bytes]:
    return [
        make_instance(InstanceSpec(scanner=scanner, plane=plane, study=number, number=number)).data
        for number, plane in enumerate(PLANES, 1)
    ]


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_simulated_scanners(scanner: Scanner) -> None:
    x0, y0, x1, y1 = propose_profile([read_screen(io.BytesIO(data)) for data in simulated(scanner)], "s").rectangles[0]
    a, b, c, d = scanner.area
    # The ticks of the depth scale stand at the edge of the picture, 7 pixels long.
    assert a - 8 <= x0 < x1 <= c + 8
    assert b - 8 <= y0 < y1 <= d + 8
    assert (x1 - x0) * (y1 - y0) > 0.4 * (c - a) * (d - b)


def test_the_command_writes_a_profile_that_can_be_read(tmp_path: Path) -> None:
    paths = []
    for number, data in enumerate(simulated(SCANNERS[0])):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(data)
    out = tmp_path / "alpha.toml"
    command: list[Any] = ["deid", "device-profile", *map(str, paths), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    profile = parse_device_profile(out.read_text("utf-8"), "alpha.toml")
    assert (profile.name, profile.version, profile.device.model) == ("alpha", 1, SCANNERS[0].model)
    assert CliRunner().invoke(app, command).exit_code == 1


def test_a_proposal_says_what_speaks_for_it() -> None:
    made = screens(5, picture=(60, 40, 240, 180), name=(20, 14, 120, 24))
    proposal = propose(made, "scanner")
    assert proposal.images == 5
    assert proposal.change.shape == (200, 300)
    assert proposal.change[40:180, 60:240].mean() > 100
    assert not proposal.change[185:, :].any()
    name, outside = 100 * 10, 200 * 300 - 180 * 140
    assert 0.9 * name / outside < proposal.changing_outside <= name / outside
