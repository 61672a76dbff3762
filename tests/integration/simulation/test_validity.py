"""dciodvfy (dicom3tools) finds no error in what the simulator makes."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from pydicom import uid

from fetalmlops.domain.simulation import SCANNERS, InstanceSpec, Kind, Layout, Photometric, make_instance

if TYPE_CHECKING:
    from pathlib import Path

DCIODVFY = shutil.which("dciodvfy")
pytestmark = pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy is absent: install dicom3tools")

P = Photometric
COLOUR = Layout(photometric=P.RGB)
KINDS = [
    (Kind.ULTRASOUND, Layout(), 1),
    (Kind.ULTRASOUND, COLOUR, 1),
    (Kind.ULTRASOUND, Layout(photometric=P.RGB, planar=1), 1),
    (Kind.ULTRASOUND, Layout(photometric=P.PALETTE), 1),
    (Kind.ULTRASOUND_MULTIFRAME, Layout(), 3),
    (Kind.ULTRASOUND_MULTIFRAME, COLOUR, 2),
    (Kind.SECONDARY_CAPTURE, Layout(), 1),
    (Kind.SECONDARY_CAPTURE, Layout(photometric=P.MONOCHROME1), 1),
    (Kind.SECONDARY_CAPTURE, Layout(bits=12), 1),
    (Kind.SECONDARY_CAPTURE_GREY, Layout(), 2),
    (Kind.SECONDARY_CAPTURE_COLOUR, COLOUR, 2),
    (Kind.BASIC_TEXT, Layout(), 1),
    (Kind.COMPREHENSIVE, Layout(), 1),
]
SYNTAXES = [
    (uid.ImplicitVRLittleEndian, Layout()),
    (uid.ExplicitVRBigEndian, Layout(photometric=P.PALETTE)),
    (uid.RLELossless, COLOUR),
    (uid.JPEGBaseline8Bit, Layout(photometric=P.YBR_FULL_422)),
    (uid.JPEGExtended12Bit, Layout()),
    (uid.JPEGLossless, Layout()),
    (uid.JPEGLosslessSV1, COLOUR),
    (uid.JPEGLSLossless, COLOUR),
    (uid.JPEGLSNearLossless, Layout()),
    (uid.JPEG2000Lossless, Layout(photometric=P.YBR_RCT)),
    (uid.JPEG2000, Layout(photometric=P.YBR_ICT)),
]


def errors(spec: InstanceSpec, path: Path) -> list[str]:
    path.write_bytes(make_instance(spec).data)
    run = subprocess.run([str(DCIODVFY), str(path)], capture_output=True, timeout=60, check=False)
    lines = run.stderr.decode("utf-8", "replace").splitlines()
    assert any(not line.startswith(("Error", "Warning", "(")) for line in lines), "dciodvfy did not name an IOD"
    return [line for line in lines if "Error" in line]


@pytest.mark.parametrize(("kind", "layout", "frames"), KINDS, ids=str)
def test_each_kind_is_valid(kind: Kind, layout: Layout, frames: int, tmp_path: Path) -> None:
    spec = InstanceSpec(kind=kind, layout=layout, frames=frames, scanner=SCANNERS[2])
    assert errors(spec, tmp_path / "instance.dcm") == []


@pytest.mark.parametrize(("syntax", "layout"), SYNTAXES, ids=str)
def test_each_transfer_syntax_is_valid(syntax: str, layout: Layout, tmp_path: Path) -> None:
    spec = InstanceSpec(transfer_syntax=syntax, layout=layout, scanner=SCANNERS[2])
    assert errors(spec, tmp_path / "instance.dcm") == []
