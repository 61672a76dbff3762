"""Mutated input: refused or clean, never a crash, never a canary."""

from __future__ import annotations

import io
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.deid import Deidentifier

_SETTINGS = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def clean_or_refused(deidentifier: Deidentifier, part10: bytes, *, source_clean: bool = False) -> None:
    refusal = None
    try:
        output, _ = deidentifier.deidentify_bytes(part10, source_clean=source_clean)
    except PermanentError as error:
        refusal = error
    if refusal:
        assert "CANARY" not in "".join(traceback.format_exception(refusal))
    else:
        assert b"CANARY" not in output
        pydicom.dcmread(io.BytesIO(output), stop_before_pixels=True)


def seeds(files: ModuleType) -> list[bytes]:
    made = []
    for syntax in (files.EXPLICIT, files.IMPLICIT, files.BIG):
        for undefined in (False, True):
            sample = files.make_sample(syntax)
            sample.undefined = undefined
            sample.attributes |= {
                0x0009_1001: ("LO", b"CANARY-PRIVATE"),
                0x0040_0275: (
                    "SQ",
                    [{0x0010_0010: ("PN", b"CANARY^NESTED"), 0x0040_0275: ("SQ", [{0x0010_4000: ("LT", b"CANARY")}])}],
                ),
            }
            made.append(sample.part10())
    return made


@_SETTINGS
@given(data=st.data())
def test_changed_bytes(files: ModuleType, deidentifier: Deidentifier, data: Any) -> None:
    part10 = bytearray(data.draw(st.sampled_from(seeds(files))))
    header = len(part10) - 60 * 80
    for _ in range(data.draw(st.integers(1, 8))):
        part10[data.draw(st.integers(128, header - 1))] = data.draw(
            st.sampled_from([0, 1, 8, 0x28, 0x7F, 0xE0, 0xFE, 0xFF])
        )
    clean_or_refused(deidentifier, bytes(part10))


@_SETTINGS
@given(data=st.data())
def test_cut_repeated_and_shifted_pieces(files: ModuleType, deidentifier: Deidentifier, data: Any) -> None:
    part10 = data.draw(st.sampled_from(seeds(files)))
    start = data.draw(st.integers(132, len(part10)))
    end = data.draw(st.integers(start, min(len(part10), start + 200)))
    piece = part10[start:end]
    clean_or_refused(
        deidentifier, part10[:start] + data.draw(st.sampled_from([b"", piece * 2, piece[::-1]])) + part10[end:]
    )


@_SETTINGS
@given(data=st.data())
def test_changed_jpeg(files: ModuleType, deidentifier: Deidentifier, data: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    from pydicom.encaps import encapsulate

    frame = bytearray(cv2.imencode(".jpg", files.speckle(60, 80, 3))[1].tobytes())
    for _ in range(data.draw(st.integers(0, 6))):
        frame[data.draw(st.integers(0, 650))] = data.draw(st.integers(0, 255))
    sample = files.make_sample("1.2.840.10008.1.2.4.50", photometric="YBR_FULL_422", samples=3)
    comment = b"\xff\xfe\x00\x0eCANARY-JPEG!"
    sample.pixels = (
        encapsulate([bytes(frame[:2]) + comment + bytes(frame[2:])], has_bot=False) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    )
    clean_or_refused(deidentifier, sample.part10(), source_clean=data.draw(st.booleans()))


@_SETTINGS
@given(noise=st.binary(max_size=2000))
def test_noise(files: ModuleType, deidentifier: Deidentifier, noise: bytes) -> None:
    part10 = files.make_sample().part10()
    clean_or_refused(deidentifier, noise)
    clean_or_refused(deidentifier, part10[:132] + noise)
    clean_or_refused(deidentifier, part10[:300] + noise + part10[300:])


def test_every_truncation(files: ModuleType, deidentifier: Deidentifier) -> None:
    part10 = files.make_sample().part10()
    for length in np.unique(np.concatenate([np.arange(0, len(part10) - 4800, 3), [len(part10) - 1]])):
        with pytest.raises(PermanentError):
            deidentifier.deidentify_bytes(part10[: int(length)])
