"""Running a bundle over a data set from the command line: with a bar, what it cost, and an entry in the ledger."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.provenance import seen_by
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.learning.evaluation import Evaluator
from fetalmlops.platform.learning.ledger import note_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from fetalmlops.domain.learning.manifest import ImageEntry
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.manifest import Precision
    from fetalmlops.platform.learning.datasets import Dataset
    from fetalmlops.platform.learning.evaluation import Timing

__all__ = ["WATTS", "BundleFacts", "Cost", "DataFacts", "Run", "SeenFacts", "progress_bar", "run_bundle"]

WATTS: Final = 10.0
"""Power of a busy core that energy is modelled with, unless another is given."""


@dataclass(frozen=True)
class BundleFacts:
    """Which model it was."""

    name: str
    version: str
    digest: str
    release_status: str
    pipeline: str
    parameters: int
    lacking: list[str]


@dataclass(frozen=True)
class DataFacts:
    """Which images they were; `digest` is that of the data set's manifest."""

    name: str
    digest: str
    layout: str
    licence: str
    split: str


@dataclass(frozen=True)
class SeenFacts:
    """Whether the images had a part in making the bundle.

    Parameters
    ----------
    images
        How many of them had, as far as the bundle tells.
    roles
        What it says that this data set was for.
    complete
        Whether it records every image that it was made from.
    sources
        Data and weights that it names as its sources: all that is known where it does not.
    said
        The same in words.
    """

    images: int
    roles: list[str]
    complete: bool
    sources: list[str]
    said: str


@dataclass(frozen=True)
class Cost:
    """What an image costs: time and processor seconds as measured on this machine, energy as modelled from them.

    Parameters
    ----------
    images
        Images that were timed, one at a time.
    engine, precision
        What ran the network.
    prepare_ms, infer_ms
        Medians for normalising and preparing, and for the network.
    latency_ms, latency_p95_ms
        Median and 95th percentile of both together.
    cpu_ms
        Processor time of an image, all threads.
    watts
        Power of a busy core that the energy is modelled with.
    joules
        Processor time times power.
    """

    images: int
    engine: str
    precision: str
    prepare_ms: float
    infer_ms: float
    latency_ms: float
    latency_p95_ms: float
    cpu_ms: float
    watts: float
    joules: float


@dataclass(frozen=True, eq=False)
class Run:
    """A bundle that was run over a data set."""

    evaluator: Evaluator
    predictions: Predictions
    facts: BundleFacts
    cost: Cost
    seen: SeenFacts


def run_bundle(
    bundle: Bundle,
    dataset: Dataset,
    split: Split,
    *,
    console: Console,
    purpose: str,
    watts: float = WATTS,
    images: list[ImageEntry] | None = None,
    precision: Precision | None = None,
) -> Run:
    """Run a bundle over a split of a data set, say what it cost, and write the use into the data set's ledger.

    `images` are some of the split's, None for all of them; `precision` is one of the bundle's, None for the one that serves.

    Raises
    ------
    ContractError
        If the split has no image, or one cannot be read or has changed.
    SettingsError
        If this machine does not compute in the precision.
    """
    images = dataset.manifest.of(split) if images is None else images
    if not images:
        there = ", ".join(each for each in Split if dataset.manifest.of(each)) or "none"
        msg = f"Expected images of the split {split}, got none in this data set; it has {there}"
        raise ContractError(msg, reason="data-split")
    evaluator = Evaluator(bundle, OpenVinoEngine(bundle, precision=precision))
    manifest = bundle.manifest
    with progress_bar(console, f"{manifest.name} {manifest.version} {precision or ''}", len(images)) as step:
        predictions = evaluator.predictions(images, dataset.read_checked, step)
    facts = BundleFacts(
        manifest.name,
        manifest.version,
        bundle.digest,
        manifest.release_status,
        manifest.pipeline.name,
        manifest.parameters,
        manifest.lacking,
    )
    note_use(dataset, images, f"{manifest.name} {manifest.version}", bundle.digest, purpose)
    seen = _seen(bundle, dataset, images)
    if precision is None and (seen.images or not seen.complete):
        word = "[red]warning:[/]" if seen.images else "[yellow]note:[/]"
        console.print(f"{word} {manifest.name} {manifest.version}: {escape(seen.said)}", highlight=False)
    return Run(evaluator, predictions, facts, _cost(evaluator, evaluator.timing, watts), seen)


def _seen(bundle: Bundle, dataset: Dataset, images: list[ImageEntry]) -> SeenFacts:
    seen = seen_by(bundle, dataset.manifest, dataset.digest, images)
    sources = [source.name for source in bundle.manifest.sources]
    said = str(seen)
    if seen.count:
        said += "; the figures are too good, judge it by others"
    elif not seen.complete and sources:
        said += f"; its sources are {', '.join(sources)}"
    return SeenFacts(seen.count, [*seen.roles], seen.complete, sources, said)


@contextmanager
def progress_bar(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar, and give what advances it by one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _cost(evaluator: Evaluator, timing: Timing, watts: float) -> Cost:
    both = np.add(timing.prepare_ms, timing.infer_ms)
    images = len(both)
    cpu_ms = 1000 * timing.cpu_s / images
    return Cost(
        images=images,
        engine=evaluator.engine.name,
        precision=evaluator.engine.precision,
        prepare_ms=_round(np.median(timing.prepare_ms)),
        infer_ms=_round(np.median(timing.infer_ms)),
        latency_ms=_round(np.median(both)),
        latency_p95_ms=_round(np.percentile(both, 95)),
        cpu_ms=_round(cpu_ms),
        watts=watts,
        joules=round(cpu_ms / 1000 * watts, 6),
    )


def _round(value: np.floating | float) -> float:
    return round(float(value), 3)
