"""The work of the children of ``fetalmlops classify``: one file to one result."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import msgspec

from fetalmlops.domain.contracts.events import Quality
from fetalmlops.platform.dicom.decoding import configure
from fetalmlops.platform.inference.bundles import open_bundle
from fetalmlops.platform.inference.local import LocalModel

__all__ = ["FileResult", "classify_file", "start"]


class FileResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one file. ``brain_probabilities`` and ``ood_score`` are None where the bundle does not give them."""

    path: str
    plane: str
    probabilities: dict[str, float]
    brain_probabilities: dict[str, float] | None
    decision: str
    ood_score: float | None
    quality: Quality


def start() -> None:
    """Set the decoding libraries' globals."""
    configure()


def classify_file(path: bytes, shown: str, home: str, bundle: str) -> FileResult:
    """Classify a file.

    Parameters
    ----------
    path
        Its path, in the file system's encoding.
    shown
        Its path as results name it.
    home, bundle
        State folder, and name or folder of the bundle.

    Raises
    ------
    PermanentError
        If it cannot be classified.
    """
    model = _model(home, bundle)
    manifest = model.bundle.manifest
    judged = model.judge_file(Path(os.fsdecode(path)))
    result = judged.result
    brain = dict(zip(manifest.brain_planes, _rounded(result.brain_probabilities.tolist()), strict=True))
    return FileResult(
        path=shown,
        plane=result.plane,
        probabilities=dict(zip(manifest.planes, _rounded(result.probabilities.tolist()), strict=True)),
        brain_probabilities=brain or None,
        decision=result.verdict.decision,
        ood_score=None if result.ood_score is None else round(result.ood_score, 6),
        quality=judged.normalized.quality,
    )


@lru_cache(maxsize=1)
def _model(home: str, bundle: str) -> LocalModel:
    return LocalModel(open_bundle(Path(home), bundle))


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 6) for value in values]
