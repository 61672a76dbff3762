from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import simplejpeg
from pydicom import uid

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.geometry import Box, Geometry
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.pipelines import PIPELINES, find_pipeline
from fetalmlops.domain.imaging.pipelines.screens import open_screen
from fetalmlops.domain.simulation import (
    SCANNERS,
    Burned,
    InstanceSpec,
    Layout,
    Photometric,
    make_instance,
    render,
)
from fetalmlops.domain.simulation.instances import stored_frames

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless, uid.JPEGLosslessSV1, uid.JPEG2000Lossless],
)
@pytest.mark.parametrize("photometric", [Photometric.MONOCHROME2, Photometric.RGB])
def test_dicom_and_png_give_the_same_frames(name: str, syntax: str, photometric: Photometric) -> None:
    spec = InstanceSpec(
        plane=Plane.BRAIN, transfer_syntax=syntax, layout=Layout(photometric=photometric), calipers=True
    )
    image = open_image(io.BytesIO(make_instance(spec).data))
    stored = find_pipeline(name).run(image)
    pixels = next(iter(stored_frames(spec)))
    _, png = cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[..., ::-1])
    plain = find_pipeline(name).run(open_screen(png.tobytes(), image.geometry))
    assert np.array_equal(stored.frames, plain.frames)
    assert (stored.quality, stored.spacing, stored.sector) == (plain.quality, plain.spacing, plain.sector)
    assert stored.spacing is not None


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("coloured", [False, True])
def test_dicom_and_a_jpeg_file_give_the_same_frames(
    make_part10: Callable[..., bytes], name: str, subsampling: str, coloured: bool
) -> None:
    screen = render(Plane.BRAIN, SCANNERS[3], np.random.default_rng(2), colour=coloured, burned=Burned(calipers=True))
    pixels = screen.pixels.copy() if coloured else screen.pixels[..., None]
    if coloured:
        pixels[200:260, 300:380] = (250, 60, 0)
    jpeg = bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 90, "RGB" if coloured else "GRAY", subsampling))
    shape = pixels.shape if coloured else pixels.shape[:2]
    photometric = {"PhotometricInterpretation": "YBR_FULL_422"} if coloured else {}
    data = make_part10([jpeg], shape, syntax=uid.JPEGBaseline8Bit, **photometric)
    stored = find_pipeline(name).run(open_image(io.BytesIO(data)))
    plain = find_pipeline(name).run(open_screen(jpeg))
    assert np.array_equal(stored.frames, plain.frames)
    assert (stored.quality, stored.mode, stored.sector) == (plain.quality, plain.mode, plain.sector)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("coloured", [False, True])
def test_a_good_jpeg_gives_nearly_the_same_frames(name: str, coloured: bool) -> None:
    screen = render(Plane.BRAIN, SCANNERS[0], np.random.default_rng(1), colour=coloured)
    region = screen.region
    geometry = Geometry(Box(region.y0, region.x0, region.y1 + 1, region.x1 + 1), (0.1, 0.1))
    pixels = screen.pixels if coloured else screen.pixels[..., None]
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 97, "RGB" if coloured else "GRAY", "444")
    _, png = cv2.imencode(".png", screen.pixels[..., ::-1] if coloured else screen.pixels)
    one, other = (find_pipeline(name).run(open_screen(data, geometry)).frames for data in (bytes(jpeg), png.tobytes()))
    assert np.abs(one.astype(int) - other).mean() < 2.0


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff\xd9"])
def test_other_bytes_are_no_screen(data: bytes) -> None:
    with pytest.raises(PermanentError):
        open_screen(data)
