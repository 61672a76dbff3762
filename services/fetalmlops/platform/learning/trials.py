"""Trials of a bundle beyond its predictions: changed images, foreign images, and its explanations."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.learning.behaviour import CHANGES, Behaviour, behaviour_figures
from fetalmlops.domain.learning.foreign import Foreign, foreign_figures, foreign_images
from fetalmlops.domain.learning.intervals import Resampler, Sampling, bound_difference
from fetalmlops.domain.learning.manifest import ImageEntry, Split
from fetalmlops.domain.learning.summary import decisions, part
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.engines.several import SeveralEngines
from fetalmlops.platform.learning.evaluation import Evaluator
from fetalmlops.platform.learning.explaining import try_explanations

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.behaviour import Change
    from fetalmlops.domain.learning.intervals import Estimate
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.platform.learning.evaluation import ImageSource

__all__ = ["OVERLAYS_REMOVED", "Trials", "run_trials", "trial_images"]

OVERLAYS_REMOVED: Final = "overlays removed"
"""The change whose loss of accuracy tells a shortcut by graphics."""

_FOREIGN: Final = 100
_EXPLAINED: Final = 60
_MOST_WORKERS: Final = 8
_NO_HASH: Final = "0" * 16


@dataclass(frozen=True)
class Trials:
    """What came of the trials.

    Parameters
    ----------
    images
        Images that were changed, drawn at random from those that were predicted.
    behaviour
        How answers fare, by change.
    accuracy_lost
        How much accuracy is lost by each change; less than nothing is a gain.
    foreign
        How foreign images fare, by kind.
    faithfulness
        Figures of the explanations; empty where the bundle has none.
    """

    images: int
    behaviour: dict[str, Behaviour]
    accuracy_lost: dict[str, Estimate]
    foreign: dict[str, Foreign]
    faithfulness: dict[str, Estimate]


def run_trials(
    evaluator: Evaluator,
    dataset: ImageSource,
    predictions: Predictions,
    *,
    images: int,
    sampling: Sampling,
    progress: Callable[[], None] = lambda: None,
    workers: int | None = None,
) -> Trials:
    """Try a bundle on changed and on foreign images, and its explanations on some.

    Parameters
    ----------
    evaluator
        The bundle, in the precision of its engine; the trials run on engines of their own.
    dataset
        Where the images are read from.
    predictions
        What the bundle said of labelled images.
    images
        Most images to change.
    sampling
        How intervals are made; its seed also draws the images.
    progress
        Called after each image, as many times as `trial_images` says.
    workers
        Images that are worked on side by side, None for one a core; figures do not depend on it.
    """
    workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    engine = partial(OpenVinoEngine, evaluator.bundle, precision=evaluator.engine.precision)
    evaluator = Evaluator(evaluator.bundle, SeveralEngines(engine, workers))
    rng = np.random.default_rng(sampling.seed)
    chosen = np.sort(rng.permutation(len(predictions))[:images])
    before = part(predictions, chosen)
    resampler = Resampler(before.patients, sampling)
    behaviour, lost = {}, {}
    for name, change in CHANGES.items():
        after = evaluator.predictions(before.images, _changed(dataset, change), progress, workers=workers)
        named, now = before.probabilities.argmax(axis=1), after.probabilities.argmax(axis=1)
        said = decisions(after, evaluator.bundle.manifest.decision)
        behaviour[name] = behaviour_figures(name, named, now, said, resampler)
        right, still = (which == before.labels for which in (named, now))
        lost[name] = bound_difference(resampler.ratio(right.astype(float) - still), sampling.level)
    return Trials(
        images=len(before),
        behaviour=behaviour,
        accuracy_lost=lost,
        foreign=_try_foreign(evaluator, predictions, sampling, workers, progress),
        faithfulness=try_explanations(
            evaluator,
            dataset,
            part(before, np.arange(min(_EXPLAINED, len(before)))),
            sampling,
            workers=workers,
            progress=progress,
        ),
    )


def trial_images(images: int, *, explained: bool) -> int:
    """Return how many images `run_trials` goes through for so many that are changed; `explained`: with explanations."""
    kinds = len(foreign_images(1, 0, 8, 8))
    return images * len(CHANGES) + kinds * _FOREIGN + (min(_EXPLAINED, images) if explained else 0)


def _changed(dataset: ImageSource, change: Change) -> Callable[[ImageEntry], NDArray[np.uint8]]:
    # Seeded by the image, so that an image changes in the same way whichever others are drawn.
    return lambda entry: change(dataset.read(entry), np.random.default_rng(int(entry.sha256[:8], 16)))


def _screen(screens: dict[str, NDArray[np.uint8]], entry: ImageEntry) -> NDArray[np.uint8]:
    return screens[entry.path]


def _try_foreign(
    evaluator: Evaluator, predictions: Predictions, sampling: Sampling, workers: int, progress: Callable[[], None]
) -> dict[str, Foreign]:
    resampler = Resampler(predictions.patients, sampling)
    figures = {}
    for kind, screens in foreign_images(_FOREIGN, sampling.seed).items():
        entries = [_foreign_entry(kind, index, screen) for index, screen in enumerate(screens)]
        by_path = {entry.path: screen for entry, screen in zip(entries, screens, strict=True)}
        said = evaluator.predictions(entries, partial(_screen, by_path), progress, workers=workers)
        verdicts = decisions(said, evaluator.bundle.manifest.decision)
        figures[kind] = foreign_figures(predictions.ood, said.ood, verdicts, resampler)
    return figures


def _foreign_entry(kind: str, index: int, screen: NDArray[np.uint8]) -> ImageEntry:
    digest = hashlib.sha256(screen.tobytes()).hexdigest()
    rows, columns = screen.shape
    return ImageEntry(
        path=f"{kind}/{index}",
        sha256=digest,
        pixels=digest,
        hash=_NO_HASH,
        patient="none",
        split=Split.TEST,
        rows=rows,
        columns=columns,
    )
