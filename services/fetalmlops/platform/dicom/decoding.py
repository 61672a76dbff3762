"""The decoding libraries' own globals, and the work that decoding children do."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import gdcm
import pydicom.config

from fetalmlops.domain.contracts.planes import SectorShape
from fetalmlops.domain.imaging.frames import NormalizedObject, write_frames
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.pipelines import PLAIN, find_pipeline

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["configure", "normalize_part10"]

_QUOTING = ("pydicom", "pydicom.config")


@cache
def configure() -> None:
    """Set the decoding libraries' globals for this process, once.

    One thread each, because processes share the cores; and silence, because what these libraries write about malformed data
    quotes its values: pydicom's warnings go nowhere, neither as warnings nor as log records, and GDCM traces nothing.
    """
    cv2.setNumThreads(1)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    for name in _QUOTING:
        logger = logging.getLogger(name)
        logger.addFilter(lambda _: False)
        logger.propagate = False
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    for silence in (gdcm.Trace.DebugOff, gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff):
        silence()


def normalize_part10(
    source: bytes | str, parameters: dict[str, int] | None = None, name: str = PLAIN
) -> NormalizedObject:
    """Normalise a clean Part 10 file; runs in a decoding child.

    Parameters
    ----------
    source
        Its bytes, or the path of a file, which is never read whole.
    parameters
        Sizes and levels of the `Pipeline` that differ from those of the named one, None for none.
    name
        Name of the pipeline.

    Raises
    ------
    PermanentError
        If its pixels cannot be used; the reasons are those of `fetalmlops.domain.imaging.faults.Fault`.
    """
    pipeline = replace(find_pipeline(name), **cast("dict[str, Any]", parameters or {}))
    with _opened(source) as file:
        normalized = pipeline.run(open_image(file))
    _, rows, columns = normalized.frames.shape
    return NormalizedObject(
        data=write_frames(normalized.frames, normalized.frame_numbers),
        total_frames=normalized.total_frames,
        frame_numbers=list(normalized.frame_numbers),
        rows=rows,
        columns=columns,
        spacing=normalized.spacing,
        quality=normalized.quality,
        pipeline_digest=pipeline.digest,
        mode=normalized.mode,
        sector=normalized.sector.shape if normalized.sector else SectorShape.UNKNOWN,
    )


def _opened(source: bytes | str) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")
