"""Text detection with RapidOCR: its models are in its wheel, and it runs on OpenVINO. Nothing is downloaded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fetalmlops.domain.deid.pixels.text import FoundText
from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RapidText"]

_DETECTION, _RECOGNITION = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"


class RapidText:
    """Finds and reads text in frames; a `fetalmlops.domain.deid.pixels.text.TextDetector`. Not safe to share between threads.

    Parameters
    ----------
    threads
        Threads of one call.

    Raises
    ------
    SettingsError
        If the models are not installed.
    """

    def __init__(self, threads: int = 1) -> None:
        import rapidocr
        from rapidocr import EngineType

        logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)  # it logs what it reads
        models = Path(rapidocr.__file__).parent / "models"
        if not all((models / name).is_file() for name in (_DETECTION, _RECOGNITION)):
            msg = "Expected the models that come with rapidocr, got none; install the version that requirements/ names"
            raise SettingsError(msg)
        self._engine: Any = rapidocr.RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_cls": False,
                "Global.text_score": 0.0,
                "Det.engine_type": EngineType.OPENVINO,
                "Det.model_path": str(models / _DETECTION),
                "Rec.engine_type": EngineType.OPENVINO,
                "Rec.model_path": str(models / _RECOGNITION),
                "EngineConfig.openvino.inference_num_threads": threads,
            }
        )

    def find(self, frame: NDArray[np.uint8]) -> list[FoundText]:
        """Return all text of a frame, [rows, columns] or [rows, columns, 3] in RGB."""
        picture = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR)
        output = self._engine(picture, use_det=True, use_cls=False, use_rec=True)
        if output.boxes is None:
            return []
        return [
            FoundText(_bounds(corners, frame.shape), str(text), float(score))
            for corners, text, score in zip(output.boxes, output.txts, output.scores, strict=True)
        ]


def _bounds(corners: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the upright box around four corners, upper bounds exclusive, within the frame."""
    low = np.floor(corners.min(axis=0)).astype(int)
    high = np.ceil(corners.max(axis=0)).astype(int)
    rows, columns = shape[:2]
    x0, y0 = int(np.clip(low[0], 0, columns - 1)), int(np.clip(low[1], 0, rows - 1))
    return x0, y0, int(np.clip(high[0], x0 + 1, columns)), int(np.clip(high[1], y0 + 1, rows))
