"""A bundle that classifies files in this process, without any server: the same pipeline, preparation and rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.pipelines.named import pipeline_of
from fetalmlops.domain.imaging.pipelines.screens import open_screen
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.classify import classify
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.dicom.decoding import configure
from fetalmlops.platform.engines.openvino import OpenVinoEngine

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from fetalmlops.domain.imaging.pipelines.normalize import NormalizedFrames
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.classify import Classified
    from fetalmlops.domain.models.engine import EngineOutput
    from fetalmlops.domain.models.manifest import Precision

__all__ = ["Judged", "LocalModel"]

_PICTURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")

_PREAMBLE: Final = 132


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model says of an instance, and what it says it by.

    Parameters
    ----------
    normalized
        Its frames as the pipeline made them, and their quality.
    output
        Outputs of the network on them.
    result
        The result.
    """

    normalized: NormalizedFrames
    output: EngineOutput
    result: Classified


class LocalModel:
    """A bundle with its engine and its pipeline.

    Parameters
    ----------
    bundle
        A verified bundle.
    threads
        Threads of the engine.
    precision
        Precision; default: the bundle's.

    Raises
    ------
    ContractError
        If its engine does not reproduce its reference outputs, or this version does not have its pipeline.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, precision: Precision | None = None) -> None:
        configure()
        self.bundle = bundle
        pipeline = bundle.manifest.pipeline
        self._pipeline = pipeline_of(pipeline.name, pipeline.digest)
        self._engine = OpenVinoEngine(bundle, threads=threads, precision=precision)
        check_engine(bundle, self._engine)

    def judge_file(self, path: Path) -> Judged:
        """Classify a PNG, JPEG or Part 10 file, of which only what its pixels need is read.

        Raises
        ------
        PermanentError
            If it is none of these, or cannot be decoded.
        ContractError
            If it cannot be read at all.
        """
        try:
            with path.open("rb") as file:
                return self.judge_stream(file)
        except OSError as error:
            msg = f"Expected a file that can be read, got {error.strerror}; mend its rights or its path"
            raise ContractError(msg, reason="unreadable") from None

    def judge_stream(self, file: BinaryIO) -> Judged:
        """Classify an open, seekable file; see `judge_file`."""
        start = file.read(_PREAMBLE)
        file.seek(0)
        if start.startswith(_PICTURES):
            return self._judge(self._pipeline.run(open_screen(file.read())))
        if not start.endswith(b"DICM"):
            msg = "Expected a PNG, a JPEG or a DICOM file, got another; convert the picture to PNG"
            raise ContractError(msg, reason="undecodable")
        return self._judge(self._pipeline.run(open_image(file)))

    def judge_screen(self, pixels: NDArray[np.uint8]) -> Judged:
        """Classify a decoded screen, ``uint8`` of [rows, columns] or RGB of [rows, columns, 3]."""
        return self._judge(self._pipeline.run_array(pixels))

    def _judge(self, normalized: NormalizedFrames) -> Judged:
        prepared = prepare(normalized.frames, self.bundle.manifest.input)
        output = self._engine.infer(prepared.batch)
        result = classify(self.bundle, output, prepared.contrast, prepared.sharpness, prepared.faults)
        return Judged(normalized, output, result)
