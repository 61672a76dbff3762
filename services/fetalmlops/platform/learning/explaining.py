"""Trials of a bundle's explanations: whether its maps show what it goes by."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import openvino

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.learning.faithfulness import (
    curve_area,
    deletion_batch,
    energy_inside,
    insertion_batch,
    over_input,
    similarity,
)
from fetalmlops.domain.learning.intervals import Resampler, Sampling
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.prepare import place
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.engines.several import SeveralEngines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.intervals import Estimate
    from fetalmlops.domain.learning.manifest import ImageEntry
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.engine import Engine
    from fetalmlops.platform.learning.evaluation import Evaluator, ImageSource, Judged

__all__ = ["scramble", "try_explanations"]

_NOISE: Final = 0.1
_BLACK: Final = 8


def try_explanations(
    evaluator: Evaluator,
    dataset: ImageSource,
    chosen: Predictions,
    sampling: Sampling,
    *,
    workers: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Estimate]:
    """Return figures of the maps of the plane that is named in each image; none where the bundle gives no maps.

    Parameters
    ----------
    evaluator
        The bundle; its engine must allow as many calls at once as there are workers.
    dataset
        Where the images are read from.
    chosen
        What the bundle said of the images.
    sampling
        How intervals are made; its seed also draws noise and random maps.
    workers
        Threads that work side by side.
    progress
        Called after each image.
    """
    bundle = evaluator.bundle
    if "maps" not in bundle.manifest.outputs:
        return {}
    scrambled = {
        name: SeveralEngines(
            partial(OpenVinoEngine, bundle, precision=evaluator.engine.precision, alter=alter), workers
        )
        for name, alter in (
            ("similarity_random_head", scramble(sampling.seed, head_only=True)),
            ("similarity_random_weights", scramble(sampling.seed)),
        )
    }

    def figures(numbered: tuple[int, ImageEntry]) -> dict[str, float]:
        index, entry = numbered
        judged = evaluator.judge(dataset.read(entry), entry.scanner)
        # Each image has its own random numbers, so that no figure depends on the order in which threads run.
        return _figures(evaluator, scrambled, judged, np.random.default_rng((sampling.seed, index)))

    rows = []
    with ThreadPoolExecutor(workers) as pool:
        for row in pool.map(figures, enumerate(chosen.images)):
            rows.append(row)
            progress()
    resampler = Resampler(chosen.patients, sampling)
    return {name: resampler.ratio(np.array([row[name] for row in rows])) for name in rows[0]}


def scramble(seed: int, *, head_only: bool = False) -> Callable[[Any], None]:
    """Return what shuffles the weights of a network, each layer's among themselves (Adebayo et al., NeurIPS 2018).

    Parameters
    ----------
    seed
        Seed of the shuffling.
    head_only
        Whether only the planes' head is shuffled.
    """

    def alter(model: Any) -> None:
        rng = np.random.default_rng(seed)
        for node in model.get_ordered_ops():
            if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
                continue
            values = np.array(node.data)
            is_head = values.ndim > 1 and values.shape[0] == len(PLANES)
            if values.size < len(PLANES) or values.ndim < 2 or (head_only and not is_head):
                continue
            shuffled = rng.permutation(values.ravel()).reshape(values.shape)
            node.output(0).replace(openvino.op.Constant(shuffled).output(0))

    return alter


def _figures(
    evaluator: Evaluator, scrambled: Mapping[str, Engine], judged: Judged, rng: np.random.Generator
) -> dict[str, float]:
    frame = judged.prepared.batch[0]
    top = int(judged.output.logits[0].argmax())
    own = _map(judged, judged.output.maps[0, top])
    chance = rng.random(own.shape, np.float32)
    noisy = frame + rng.normal(0, _NOISE, frame.shape).astype(np.float32)
    insertion, deletion, insertion_of_chance, deletion_of_chance = _areas(evaluator, frame, (own, chance), top)
    energy, share = energy_inside(_raw_map(judged, top), _lit(evaluator, judged))
    return {
        "insertion": insertion,
        "deletion": deletion,
        "faithfulness": insertion - deletion,
        "faithfulness_of_chance": insertion_of_chance - deletion_of_chance,
        "energy_in_sector": energy,
        "sector_share": share,
        "repeatability": similarity(own, _map(judged, evaluator.infer(noisy[None]).maps[0, top])),
        **{
            name: similarity(own, _map(judged, engine.infer(judged.prepared.batch).maps[0, top]))
            for name, engine in scrambled.items()
        },
    }


def _areas(
    evaluator: Evaluator, frame: NDArray[np.float32], rankings: tuple[NDArray[np.float32], ...], plane: int
) -> list[float]:
    """Return insertion and deletion area of each ranking; all begin and end with the same frames, which run once."""
    batches = [batch(frame, ranking) for ranking in rankings for batch in (insertion_batch, deletion_batch)]
    ends = np.stack([batches[0][0], frame, batches[1][-1]])  # blurred, whole, empty
    logits = evaluator.infer(np.concatenate([ends, *(batch[1:-1] for batch in batches)])).logits
    blurred, whole, empty, *between = softmax(logits, evaluator.bundle.manifest.calibration.temperature)[:, plane]
    areas = []
    for index, part in enumerate(np.split(np.array(between), len(batches))):
        first, last = (whole, empty) if index % 2 else (blurred, whole)
        areas.append(curve_area(np.array([first, *part, last])))
    return areas


def _raw_map(judged: Judged, plane: int) -> NDArray[np.float32]:
    """Return the map of a plane over the network's input, [rows, columns], unscaled."""
    rows, columns = judged.prepared.batch.shape[1:]
    return np.asarray(cv2.resize(judged.output.maps[0, plane], (columns, rows)), np.float32)


def _map(judged: Judged, activation: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = judged.prepared.batch.shape[1:]
    return over_input(activation, rows, columns)


def _lit(evaluator: Evaluator, judged: Judged) -> NDArray[np.bool_]:
    """Return where the network's input shows the sector: what is not black, with its gaps closed."""
    spec = evaluator.bundle.manifest.input
    where = place(judged.frame.shape[0], judged.frame.shape[1], spec)
    lit = cv2.resize(
        (judged.frame > _BLACK).astype(np.uint8), (where.columns, where.rows), interpolation=cv2.INTER_AREA
    )
    inside = np.zeros((spec.rows, spec.columns), np.uint8)
    inside[where.top : where.top + where.rows, where.left : where.left + where.columns] = lit
    return np.asarray(cv2.morphologyEx(inside, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)) > 0, np.bool_)
