"""What scanner and sector shape alone tell of the plane: a model that does no better has learned a shortcut.

The baseline sees no grey level: only which scanner made the image, its size, and the outline of the sector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.training.evaluation import macro_f1
from fetalmlops.training.predicting import of_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.training.loading.frames import Frames

__all__ = ["shortcut_macro_f1"]

_OUTLINE: Final = 16
_TREES: Final = 200


def shortcut_macro_f1(frames: Frames, seed: int) -> float:
    """Return the macro-F1 on the test images of a random forest on scanner, image size and sector outline.

    Parameters
    ----------
    frames
        Prepared frames of a data set with training and test images.
    seed
        Seed of the forest.
    """
    from sklearn.ensemble import RandomForestClassifier

    known = sorted({image.scanner for image in frames.images if image.split is Split.TRAIN})
    features = np.stack([_features(frames, index, known) for index in range(len(frames))])
    labels = np.array([PLANES.index(image.plane or PLANES[0]) for image in frames.images], np.int64)
    training, test = (of_split(frames, split) for split in (Split.TRAIN, Split.TEST))
    forest = RandomForestClassifier(_TREES, min_samples_leaf=2, class_weight="balanced", random_state=seed)
    forest.fit(features[training], labels[training])
    return macro_f1(forest.predict(features[test]), labels[test])


def _features(frames: Frames, index: int, known: list[str]) -> NDArray[np.float32]:
    image, sector = frames.images[index], frames.scene(index).sector
    outline = cv2.resize(sector.astype(np.float32), (_OUTLINE, _OUTLINE), interpolation=cv2.INTER_AREA)
    scanner = [float(image.scanner == name) for name in known]
    return np.concatenate([outline.ravel(), scanner, [image.rows, image.columns]]).astype(np.float32)
