"""What a network says of prepared frames, as the predictions that all figures are computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.learning.predictions import Predictions
from fetalmlops.domain.models.engine import join_outputs
from fetalmlops.domain.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.domain.learning.manifest import Split
    from fetalmlops.domain.models.engine import Engine, EngineOutput
    from fetalmlops.domain.models.manifest import Calibration
    from fetalmlops.domain.models.ood import OodReference
    from fetalmlops.training.loading.frames import Frames

__all__ = ["of_split", "predictions_of", "run_engine"]

_BATCH: Final = 8


def of_split(frames: Frames, split: Split) -> list[int]:
    """Return which frames are of a split."""
    return [index for index, image in enumerate(frames.images) if image.split is split]


def run_engine(engine: Engine, frames: Frames, chosen: Sequence[int]) -> EngineOutput:
    """Return what an engine says of some of the prepared frames."""
    starts = range(0, len(chosen), _BATCH)
    return join_outputs([engine.infer(frames.batch(chosen[start : start + _BATCH])) for start in starts])


def predictions_of(
    frames: Frames, chosen: Sequence[int], output: EngineOutput, calibration: Calibration, ood: OodReference | None
) -> Predictions:
    """Return the predictions that outputs on some of the prepared frames are."""
    prepared = [prepare(frames.scene(index).frame[None], frames.spec) for index in chosen]
    return Predictions(
        images=[frames.images[index] for index in chosen],
        logits=output.logits,
        brain_logits=output.brain_logits,
        features=output.features,
        ood=np.full(len(chosen), np.nan) if ood is None else ood.score(output.features),
        contrast=np.array([float(each.contrast[0]) for each in prepared]),
        sharpness=np.array([float(each.sharpness[0]) for each in prepared]),
        calibration=calibration,
    )
