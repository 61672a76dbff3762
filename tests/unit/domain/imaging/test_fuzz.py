"""Mutated files give an image or a permanent error with a reason of the list, and nothing else."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jpeg_ls import encode_buffer
from openjpeg.utils import encode_array
from pydicom import uid
from rle.rle import encode_frame

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.faults import Fault
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.pipelines.normalize import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

SHAPE = (40, 56)


@pytest.fixture(scope="module")
def files(
    make_part10: Callable[..., bytes],
    make_region: Callable[..., Dataset],
    make_speckle: Callable[..., NDArray[np.uint8]],
) -> dict[str, bytes]:
    frames = [make_speckle(*SHAPE, seed=seed) for seed in range(3)]
    rgb = [np.ascontiguousarray(np.dstack([frame, frame // 2, frame])) for frame in frames]
    common: dict[str, Any] = {
        "SequenceOfUltrasoundRegions": [make_region(RegionLocationMaxX1=55, RegionLocationMaxY1=39)]
    }
    coded = {
        "jpeg": (uid.JPEGBaseline8Bit, [simplejpeg.encode_jpeg(each, 90, "RGB", "422") for each in rgb], rgb),
        "jpeg-ls": (
            uid.JPEGLSLossless,
            [bytes(encode_buffer(each.tobytes(), *SHAPE, 1, 8)) for each in frames],
            frames,
        ),
        "jpeg-2000": (
            uid.JPEG2000Lossless,
            [bytes(encode_array(each, photometric_interpretation=1)) for each in rgb],
            rgb,
        ),
        "rle": (uid.RLELossless, [bytes(encode_frame(each.tobytes(), *SHAPE, 3, 8, "<")) for each in rgb], rgb),
    }
    made = {
        name: make_part10(data, pictures[0].shape, syntax=syntax, **common)
        for name, (syntax, data, pictures) in coded.items()
    }
    native = np.stack(rgb).tobytes()
    made["native"] = make_part10(native, (*SHAPE, 3), frames=3, **common)
    made["implicit"] = make_part10(native, (*SHAPE, 3), frames=3, syntax=uid.ImplicitVRLittleEndian, **common)
    return made


def outcome(data: bytes) -> str:
    try:
        result = Pipeline().run(open_image(io.BytesIO(data)))
    except PermanentError as error:
        return Fault(error.reason).value
    assert result.frames.dtype == np.uint8
    assert result.frames.shape[0] == len(result.frame_numbers) <= 64
    return "normalised"


KINDS = ["jpeg", "jpeg-ls", "jpeg-2000", "rle", "native", "implicit"]
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("kind", KINDS)
def test_unharmed_files_are_normalised(kind: str, files: dict[str, bytes]) -> None:
    assert outcome(files[kind]) == "normalised"


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(data=st.data())
def test_a_file_that_breaks_off_is_refused(kind: str, files: dict[str, bytes], data: st.DataObject) -> None:
    whole = files[kind]
    assert outcome(whole[: data.draw(st.integers(0, len(whole) - 9))]) != "normalised"


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(data=st.data())
def test_changed_bytes_give_a_reason_or_an_image(kind: str, files: dict[str, bytes], data: st.DataObject) -> None:
    changed = bytearray(files[kind])
    # Half of the changes hit the header, which is a small part of the file.
    place = st.one_of(st.integers(132, 1000), st.integers(0, len(changed) - 1))
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(place)] = data.draw(st.integers(0, 255))
    outcome(bytes(changed))


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(data=st.data())
def test_removed_and_repeated_parts_give_a_reason_or_an_image(
    kind: str, files: dict[str, bytes], data: st.DataObject
) -> None:
    whole = files[kind]
    first, last = sorted(data.draw(st.lists(st.integers(132, len(whole)), min_size=2, max_size=2)))
    outcome(whole[:first] + whole[last:])
    outcome(whole[:last] + whole[first:last] + whole[last:])
