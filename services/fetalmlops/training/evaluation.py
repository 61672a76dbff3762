"""Figures of a fitted model: accuracy, calibration, selective prediction and out-of-scope detection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.models.calibration import expected_calibration_error, negative_log_likelihood, softmax
from fetalmlops.training.data import NO_BRAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.models.engine import EngineOutput
    from fetalmlops.domain.models.manifest import Calibration
    from fetalmlops.domain.models.ood import OodReference
    from fetalmlops.training.data import Dataset

__all__ = ["evaluate", "foreign_images"]


def evaluate(
    data: Dataset, output: EngineOutput, calibration: Calibration, ood: OodReference, accept: float
) -> dict[str, float]:
    """Return the figures of a model's outputs on a data set, keyed by metric."""
    planes = softmax(output.logits, calibration.temperature)
    brain = data.brain_planes != NO_BRAIN
    brain_planes = softmax(output.brain_logits[brain], calibration.brain_temperature)
    accepted = (planes.max(axis=1) >= accept) & (ood.score(output.features) <= 1)
    correct = planes.argmax(axis=1) == data.planes
    figures = {
        "images": float(len(data)),
        "accuracy": float(correct.mean()),
        "macro_f1": _macro_f1(planes.argmax(axis=1), data.planes),
        "brain_accuracy": float((brain_planes.argmax(axis=1) == data.brain_planes[brain]).mean()),
        "brain_macro_f1": _macro_f1(brain_planes.argmax(axis=1), data.brain_planes[brain]),
        "negative_log_likelihood": negative_log_likelihood(planes, data.planes),
        "expected_calibration_error": expected_calibration_error(planes, data.planes),
        "accepted": float(accepted.mean()),
        "out_of_scope": float((ood.score(output.features) > 1).mean()),
    }
    if accepted.any():
        figures["accuracy_of_accepted"] = float(correct[accepted].mean())
    return figures


def foreign_images(count: int, seed: int, rows: int = 300, columns: int = 400) -> dict[str, NDArray[np.uint8]]:
    """Return images that are no ultrasound, by kind, each ``uint8`` of [count, rows, columns]."""
    rng = np.random.default_rng(seed)
    return {
        "noise": rng.integers(0, 256, (count, rows, columns), dtype=np.uint8),
        "smooth noise": np.stack([_smooth(rng, rows, columns) for _ in range(count)]),
        "ramps": np.stack([_ramp(rng, rows, columns) for _ in range(count)]),
        "text": np.stack([_text(rng, rows, columns) for _ in range(count)]),
        "empty sector": np.stack([_empty_sector(rng, rows, columns) for _ in range(count)]),
    }


def _macro_f1(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    scores = []
    for label in np.unique(labels):
        hits = float(((predicted == label) & (labels == label)).sum())
        scores.append(2 * hits / ((predicted == label).sum() + (labels == label).sum()))
    return float(np.mean(scores))


def _smooth(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    coarse = rng.integers(0, 256, (8, 10), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC), np.uint8)


def _ramp(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = x * np.cos(angle) + y * np.sin(angle)
    return np.asarray(255 * (ramp - ramp.min()) / np.ptp(ramp), np.uint8)


def _text(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    image = np.zeros((rows, columns), np.uint8)
    for baseline in range(20, rows, 22):
        word = "".join(chr(code) for code in rng.integers(65, 91, int(rng.integers(5, 30))))
        cv2.putText(image, word, (5, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
    return image


def _empty_sector(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    image = np.zeros((rows, columns), np.uint8)
    half = rng.uniform(25, 45)
    shade = int(rng.integers(20, 90))
    cv2.ellipse(image, (columns // 2, -rows // 10), (rows, rows), 90, -half, half, shade, -1)
    return image
