"""Running a bundle over a data set: the one way from stored screens to predictions, and it is the way of serving."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.pipelines import pipeline_of
from fetalmlops.domain.learning.predictions import Predictions
from fetalmlops.domain.models.engine import join_outputs
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.events import Quality
    from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry, Split
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import Engine, EngineOutput
    from fetalmlops.domain.models.prepare import Prepared

__all__ = ["Evaluator", "ImageSource", "Judged", "Timing", "predict"]

_BATCH: Final = 8  # larger ones take memory and no less time


class ImageSource(Protocol):
    """A data set whose images can be read, such as `fetalmlops.platform.learning.datasets.Dataset`."""

    @property
    def manifest(self) -> DataManifest:
        """What is known of its images."""

    @property
    def digest(self) -> str:
        """SHA-256 of its manifest, 64 hexadecimal digits."""

    def read(self, entry: ImageEntry) -> NDArray[np.uint8]:
        """Return a decoded screen: grey [rows, columns], or RGB [rows, columns, 3]."""


@dataclass
class Timing:
    """What images took, measured one at a time on this machine.

    Parameters
    ----------
    prepare_ms, infer_ms
        Wall-clock milliseconds of each image for normalisation and preparation, and for the network.
    cpu_s
        Processor seconds of this process over all images, all threads; reading files is left out.
    """

    prepare_ms: list[float] = field(default_factory=list)
    infer_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Judged:
    """One screen on its way through a model: normalised frame with its quality, prepared frame and the network's output."""

    frame: NDArray[np.uint8]
    quality: Quality
    prepared: Prepared
    output: EngineOutput


class Evaluator:
    """A bundle with its pipeline and an engine, ready to judge screens as serving does.

    Parameters
    ----------
    bundle
        The bundle.
    engine
        Runs it; default: OpenVINO in the bundle's default precision, on one thread.

    Raises
    ------
    ContractError
        If the bundle was made for a normalisation that this release does not have.
    """

    def __init__(self, bundle: Bundle, engine: Engine | None = None) -> None:
        self.bundle = bundle
        self.engine = engine or OpenVinoEngine(bundle)
        self.timing = Timing()
        pipeline = bundle.manifest.pipeline
        self._pipeline = pipeline_of(pipeline.name, pipeline.digest)

    def judge(self, screen: NDArray[np.uint8], scanner: str = "") -> Judged:
        """Return what the model says of one screen."""
        cpu, begin = time.process_time(), time.perf_counter()
        normalized = self._pipeline.run_array(screen, scanner=scanner)
        frame = normalized.frames[0]
        prepared = prepare(frame[None], self.bundle.manifest.input)
        middle = time.perf_counter()
        output = self.engine.infer(prepared.batch)
        end = time.perf_counter()
        self.timing.prepare_ms.append(1000 * (middle - begin))
        self.timing.infer_ms.append(1000 * (end - middle))
        self.timing.cpu_s += time.process_time() - cpu
        return Judged(frame, normalized.quality, prepared, output)

    def infer(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run the network on prepared frames, [frames, rows, columns], outside the timing."""
        return join_outputs([self.engine.infer(batch[at : at + _BATCH]) for at in range(0, len(batch), _BATCH)])

    def predictions(
        self,
        images: Sequence[ImageEntry],
        read: Callable[[ImageEntry], NDArray[np.uint8]],
        progress: Callable[[], None] = lambda: None,
        seen: Callable[[Judged], None] = lambda _: None,
        workers: int = 1,
    ) -> Predictions:
        """Return what the model says of images.

        Parameters
        ----------
        images
            The images.
        read
            Returns an image's screen.
        progress
            Called after each image.
        seen
            Gets each image's way through the model, for what the predictions do not keep.
        workers
            Threads that judge images side by side, which the engine must allow; the timing then means nothing.
        """
        rows = []
        for each in self._judge_all(images, read, workers):
            seen(each)
            arrays = (each.output.logits, each.output.brain_logits, each.output.features)
            rows.append((*arrays, each.prepared.contrast, each.prepared.sharpness, each.prepared.faults))
            progress()
        logits, brain_logits, features, contrast, sharpness, faults = zip(*rows, strict=True)
        return Predictions(
            images=images,
            logits=np.concatenate(logits),
            brain_logits=np.concatenate(brain_logits),
            features=np.concatenate(features),
            ood=self.scores(np.concatenate(features)),
            contrast=np.concatenate(contrast),
            sharpness=np.concatenate(sharpness),
            calibration=self.bundle.manifest.calibration,
            faults=[fault for each in faults for fault in each],
        )

    def _judge_all(
        self, images: Sequence[ImageEntry], read: Callable[[ImageEntry], NDArray[np.uint8]], workers: int
    ) -> Iterator[Judged]:
        def judge(image: ImageEntry) -> Judged:
            return self.judge(read(image), image.scanner)

        if workers == 1:
            yield from map(judge, images)
            return
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(judge, images)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the out-of-scope scores of pooled `features`, [images]; NaN where the bundle has no reference for them."""
        return np.full(len(features), np.nan) if self.bundle.ood is None else self.bundle.ood.score(features)


def predict(
    bundle: Bundle, dataset: ImageSource, split: Split, *, progress: Callable[[], None] = lambda: None
) -> Predictions:
    """Return what a bundle says of a data set's images of one split.

    Parameters
    ----------
    bundle
        The bundle.
    dataset
        The data set.
    split
        Which of its images.
    progress
        Called after each image.

    Raises
    ------
    ContractError
        If the split has no image, an image cannot be read, or the bundle's normalisation is not there.
    """
    images = dataset.manifest.of(split)
    if not images:
        msg = f"Expected images of the split {split}, got none in this data set; name another split"
        raise ContractError(msg, reason="data-split")
    return Evaluator(bundle).predictions(images, dataset.read, progress)
