from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg
from pydicom import uid
from pydicom.pixels import pixel_array

from fetalmlops.domain.imaging.decoding import DecodedFrame, black, iter_frames
from fetalmlops.domain.imaging.encoding import ENCODED_TRANSFER_SYNTAX_UID, encode_frames
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SHAPE = (96, 128)


def frame(photometric: Photometric, bits: int, seed: int = 0) -> DecodedFrame:
    shape = (*SHAPE, 3) if photometric.samples == 3 else SHAPE
    levels = np.random.default_rng(seed).integers(0, 1 << bits, shape)
    return DecodedFrame(1, levels.astype(np.uint8 if bits <= 8 else np.uint16), photometric, bits)


@pytest.mark.parametrize("bits", [1, 7, 8, 12, 16])
@pytest.mark.parametrize("photometric", [Photometric.MONOCHROME2, Photometric.RGB, Photometric.YBR_FULL])
def test_encoded_frames_decode_to_the_same_samples(
    photometric: Photometric, bits: int, make_part10: Callable[..., bytes]
) -> None:
    frames = [frame(photometric, bits, seed) for seed in range(3)]
    data = make_part10(
        list(encode_frames(frames)),
        frames[0].pixels.shape,
        syntax=ENCODED_TRANSFER_SYNTAX_UID,
        bits=bits,
        PhotometricInterpretation=photometric.value,
    )
    decoded = list(iter_frames(open_image(io.BytesIO(data)).source))
    for before, after in zip(frames, decoded, strict=True):
        assert np.array_equal(before.pixels, after.pixels)
        assert (before.photometric, before.bits) == (after.photometric, after.bits)
    assert np.array_equal(pixel_array(io.BytesIO(data), raw=True), np.stack([each.pixels for each in frames]))


def test_blanking_a_lossy_cine_leaves_every_other_sample_as_it_was(
    make_part10: Callable[..., bytes], make_speckle: Callable[..., NDArray[np.uint8]]
) -> None:
    pictures = [np.dstack([make_speckle(*SHAPE, seed=seed)] * 3) for seed in range(3)]
    lossy = [simplejpeg.encode_jpeg(np.ascontiguousarray(picture), 85, "RGB", "422") for picture in pictures]
    attributes: dict[str, Any] = {"PhotometricInterpretation": "YBR_FULL_422"}
    source = open_image(io.BytesIO(make_part10(lossy, (*SHAPE, 3), syntax=uid.JPEGBaseline8Bit, **attributes)))
    before = list(iter_frames(source.source))
    kept = (slice(20, 90), slice(10, 100))
    masked = []
    for each in before:
        pixels = np.empty_like(each.pixels)
        pixels[:] = black(each.photometric, each.bits)
        pixels[kept] = each.pixels[kept]
        masked.append(each._replace(pixels=pixels))
    encoded = list(encode_frames(masked))
    data = make_part10(encoded, (*SHAPE, 3), syntax=ENCODED_TRANSFER_SYNTAX_UID, PhotometricInterpretation="YBR_FULL")
    image = open_image(io.BytesIO(data))
    for stored, after in zip(before, iter_frames(image.source), strict=True):
        assert np.array_equal(after.pixels[kept], stored.pixels[kept])
        assert np.array_equal(image.grey(after.number)[kept], source.grey(after.number)[kept])
        outside = after.pixels.copy()
        outside[kept] = (0, 128, 128)
        assert (outside == (0, 128, 128)).all()
    assert sum(map(len, encoded)) < 0.4 * sum(picture.nbytes for picture in pictures)
