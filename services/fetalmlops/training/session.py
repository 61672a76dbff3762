"""One training from a recipe and a data set to a sealed bundle."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np
import torch

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.pipelines import find_pipeline
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.provenance import IMAGES_FILE, ImageRecord, record_of
from fetalmlops.domain.learning.splits import straddling_patients
from fetalmlops.domain.models.bundle import bundle_digest, seal_bundle
from fetalmlops.domain.models.evidence import Evidence
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Energy, SourceEntry, decode_manifest
from fetalmlops.platform.energy.trainings import PURPOSE
from fetalmlops.platform.learning.ledger import note_use
from fetalmlops.training.checkpoints import Checkpoints
from fetalmlops.training.code import code_digest
from fetalmlops.training.energy import EnergyMeter, energy_meter
from fetalmlops.training.evaluation import macro_f1
from fetalmlops.training.evidence import seal_judged
from fetalmlops.training.fitting import Watch, fit, run
from fetalmlops.training.loading.batches import Batches
from fetalmlops.training.loading.frames import cache_frames
from fetalmlops.training.networks import make_network
from fetalmlops.training.predicting import of_split
from fetalmlops.training.recipe import RECIPE_FILE, encode_recipe, recipe_digest
from fetalmlops.training.sealing import environment_of, judge_network, make_provenance, seal_network
from fetalmlops.training.starting import mixed, start_from, weights_of
from fetalmlops.training.tracking import Record, open_record

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import nn

    from fetalmlops.training.checkpoints import State
    from fetalmlops.training.evidence import Judge
    from fetalmlops.training.loading.frames import DataSource, Frames
    from fetalmlops.training.places import Place
    from fetalmlops.training.recipe import Recipe

_LEARNT = (Split.TRAIN, Split.VALIDATION)

__all__ = ["Job", "Start", "Trained", "Viewer", "cached", "identity", "make_started", "train"]


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Parameters
    ----------
    data
        The weights, safetensors.
    source
        What they are and under which licence, for the manifest.
    images
        The images that they were made from, as far as is known.
    """

    data: bytes
    source: SourceEntry
    images: ImageRecord = field(default_factory=ImageRecord)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train.

    Parameters
    ----------
    recipe
        The recipe.
    data
        The data set.
    home
        State folder: caches, checkpoints and the record lie there.
    start
        Weights to start from, None for random ones.
    resume
        Whether to go on where an interrupted run of the same job stopped; otherwise such a run is begun anew.
    threads
        Threads that make batches.
    judge
        The intended use by which the bundle is judged; None leaves out what takes time and decides no weight: intervals,
        explanations, references of drift, and precisions other than f32.
    purpose
        What its record says that it was for: ``training`` or ``search``.
    """

    recipe: Recipe
    data: DataSource
    home: Path
    start: Start | None = None
    resume: bool = False
    threads: int = 1
    judge: Judge | None = None
    purpose: str = "training"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gave.

    Parameters
    ----------
    files
        Files of the sealed bundle; empty in processes that do not lead.
    state
        Where the fitting ended.
    rate
        Images a second that went through the fitting, of this process.
    waiting
        Share of the fitting's time, without that on validation images, in which it waited for batches.
    energy
        What the fitting took.
    """

    files: dict[str, bytes]
    state: State
    rate: float
    waiting: float
    energy: Energy


class Viewer(Watch, Protocol):
    """Is shown how a training goes."""

    def say(self, text: str) -> None:
        """Show a line."""

    def cached(self, done: int, of: int) -> None:
        """Show how many images have been prepared."""


def identity(job: Job) -> str:
    """Return the digest of all that decides the weights: recipe, data, code and start."""
    start = hashlib.sha256(job.start.data).hexdigest() if job.start else ""
    parts = [recipe_digest(job.recipe), job.data.digest, code_digest(), start]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def train(job: Job, place: Place, viewer: Viewer) -> Trained:
    """Train, and seal a bundle.

    Parameters
    ----------
    job
        What to train.
    place
        Where.
    viewer
        Is shown how it goes, in the process that leads.

    Raises
    ------
    ContractError
        If the data set lacks what a training needs.
    SettingsError
        If the recipe names a network or pipeline that does not exist.
    """
    folder = job.home / "training" / identity(job)[:16]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    checkpoints = Checkpoints(folder, identity(job))
    if place.leads and not job.resume:
        checkpoints.remove()
    place.wait()
    resumed = checkpoints.exists
    network = make_started(job, viewer)
    began = weights_of(network)
    frames = cached(job, place, viewer)
    record = _record(job, folder, resumed=resumed) if place.leads else None
    fitting = _Fitting(job, place, frames, record, viewer)
    metering: AbstractContextManager[EnergyMeter] = energy_meter() if place.leads else nullcontext(EnergyMeter())
    with metering as meter:
        state = fitting.run(network, checkpoints)
    trained = Trained(files={}, state=state, rate=fitting.rate, waiting=fitting.waiting, energy=meter.energy)
    if record is None:
        return trained
    viewer.say(
        f"{trained.rate:.0f} images/s; waited for images {trained.waiting:.1%} of the time; best epoch "
        f"{state.best_epoch + 1} of {len(state.history)}: macro-F1 {state.best_score:.4f} on validation"
    )
    network.load_state_dict(mixed(state.best, began, job.recipe.fitting.start_share))
    judged = judge_network(network.cpu(), frames, job.recipe)
    environment = {**environment_of(place.device), "resumed": "yes, energy since then" if resumed else "no"}
    provenance = make_provenance(job.recipe, job.data.digest, environment, state.seconds, meter.energy)
    if job.judge is None:
        files = seal_network(judged, job.recipe, provenance, _sources(job), Evidence())
    else:
        viewer.say("tries explanations and precisions on validation images")
        files = seal_judged(judged, job.recipe, provenance, _sources(job), job.data, frames, job.judge)
    trained = replace(trained, files=_with_origin(files, job))
    tested = [frames.images[index] for index in of_split(frames, Split.TEST)]
    bundle = f"{job.recipe.name} {job.recipe.version}"
    note_use(job.data, tested, bundle, bundle_digest(trained.files[MANIFEST_NAME]), "training, measured at its end")
    _finish(record, trained, judged.metrics, environment)
    return trained


def cached(job: Job, place: Place, viewer: Viewer) -> Frames:
    """Return the prepared frames of a job's data set; one process prepares them, the others wait.

    Raises
    ------
    ContractError
        If there are no labelled images for training or for validation, or a patient has images in two splits.
    """
    known = job.data.manifest.images
    labelled = [image for image in known if image.plane is not None and image.split is not Split.UNKNOWN]
    for split in (Split.TRAIN, Split.VALIDATION):
        if not any(image.split is split for image in labelled):
            msg = f"Expected labelled images for {split}, got none; add the data with a share for validation"
            raise ContractError(msg, reason="data")
    if straddling_patients(labelled):
        msg = "Expected every patient in one split, got some in two; run fetalmlops data check"
        raise ContractError(msg, reason="data-split")
    pipeline, folder = find_pipeline(job.recipe.pipeline), job.home / "training" / "frames"
    if not place.leads:
        place.wait()
    began = time.monotonic()
    frames = cache_frames(job.data, pipeline, job.recipe.input, folder, viewer.cached)
    if place.leads:
        viewer.say(f"{len(frames):,} images ready after {time.monotonic() - began:.0f} s")
        place.wait()
    return frames


def make_started(job: Job, viewer: Viewer) -> nn.Module:
    """Return a job's network with the weights that it starts from; the seed decides those that are random."""
    torch.manual_seed(job.recipe.seed)
    network = make_network(job.recipe.network)
    if job.start:
        loaded, of = start_from(network, job.start.data)
        viewer.say(f"starts from {job.start.source.name}: {loaded} of {of} tensors")
    return network


class _Fitting:
    """A job's fitting, timed."""

    def __init__(self, job: Job, place: Place, frames: Frames, record: Record | None, viewer: Viewer) -> None:
        self._job, self._place, self._frames = job, place, frames
        self._watch: Watch = _Recorded(viewer, record) if record else _Silent()
        self._validation = of_split(frames, Split.VALIDATION)
        self._labels = np.array([PLANES.index(frames.images[index].plane or PLANES[0]) for index in self._validation])
        self.rate = self.waiting = 0.0

    def run(self, network: nn.Module, checkpoints: Checkpoints) -> State:
        job, place = self._job, self._place
        # Threads that wait for each other spin: more of them than cores take many times the time.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // place.world - job.threads))
        chosen = of_split(self._frames, Split.TRAIN)
        batches = Batches(self._frames, chosen, job.recipe, rank=place.rank, world=place.world, threads=job.threads)
        self._judging = 0.0
        began = time.monotonic()
        state = fit(network, batches, job.recipe.fitting, place, self._judge, checkpoints, self._watch)
        spent = max(1e-9, time.monotonic() - began - self._judging)
        self.rate, self.waiting = batches.images / spent, batches.waited / spent
        return state

    def _judge(self, network: nn.Module) -> float:
        began = time.monotonic()
        logits = run(network, self._frames, self._validation).logits
        self._judging += time.monotonic() - began
        return macro_f1(logits.argmax(axis=1), self._labels)


class _Recorded:
    def __init__(self, viewer: Viewer, record: Record) -> None:
        self._viewer, self._record = viewer, record

    def step(self, done: int, of: int, loss: float) -> None:
        self._viewer.step(done, of, loss)

    def epoch(self, number: int, figures: dict[str, float]) -> None:
        self._viewer.epoch(number, figures)
        self._record.figures(figures, step=number)


class _Silent:
    def step(self, done: int, of: int, loss: float) -> None: ...

    def epoch(self, number: int, figures: dict[str, float]) -> None: ...


def _record(job: Job, folder: Path, *, resumed: bool) -> Record:
    note = folder / "mlflow-run"
    earlier = note.read_text() if resumed and note.exists() else ""
    recipe = job.recipe
    record = open_record(job.home, f"{recipe.name}-{recipe.version}-seed{recipe.seed}", earlier)
    note.write_text(record.run_id)
    fields = msgspec.to_builtins(recipe)
    parameters = {"recipe": recipe.name, "version": recipe.version, "seed": recipe.seed, "pipeline": recipe.pipeline}
    for table in ("network", "input", "fitting", "augmentation"):
        parameters.update({f"{table}.{name}": value for name, value in fields[table].items()})
    tags = {
        "data": job.data.digest,
        "recipe": recipe_digest(recipe),
        "code": code_digest(),
        "start": job.start.source.name if job.start else "random",
        "data_name": job.data.manifest.name,
        PURPOSE: job.purpose,
    }
    record.set(parameters, tags)
    record.keep("recipe.toml", encode_recipe(recipe))
    return record


def _finish(
    record: Record, trained: Trained, metrics: dict[str, dict[str, float]], environment: dict[str, str]
) -> None:
    for name, figures in metrics.items():
        record.figures({f"{name}/{figure}": value for figure, value in figures.items()})
    energy = trained.energy
    record.figures(
        {"images_per_second": trained.rate, "waiting": trained.waiting, "seconds": trained.state.seconds}
        | {name: value for name, value in (("energy_kwh", energy.kwh), ("co2e_g", energy.co2e_g)) if value is not None}
    )
    bundle = bundle_digest(trained.files[MANIFEST_NAME])
    record.set({}, {**environment, "energy": f"{energy.method}: {energy.tool}", "bundle": bundle})
    record.keep(MANIFEST_NAME, trained.files[MANIFEST_NAME])
    record.end()


def _with_origin(files: dict[str, bytes], job: Job) -> dict[str, bytes]:
    """Add the recipe, so that the network can be built again, and the record of the images that it learnt from."""
    manifest = decode_manifest(files[MANIFEST_NAME])
    learnt = [image for image in job.data.manifest.images if image.plane is not None and image.split in _LEARNT]
    record = record_of(learnt)
    if job.start:
        record = record.joined(job.start.images)
    evidence = msgspec.structs.replace(manifest.evidence, images_file=IMAGES_FILE)
    contents = {name: data for name, data in files.items() if name != MANIFEST_NAME}
    contents |= {IMAGES_FILE: record.to_bytes(), RECIPE_FILE: encode_recipe(job.recipe)}
    return seal_bundle(msgspec.structs.replace(manifest, evidence=evidence), contents)


def _sources(job: Job) -> list[SourceEntry]:
    manifest = job.data.manifest
    counts = ", ".join(
        f"{len(manifest.of(split)):,} {split}" for split in Split if split is not Split.UNKNOWN and manifest.of(split)
    )
    described = (
        f"{counts} images of {len({image.patient for image in manifest.images}):,} patients. {manifest.citation}"
    )
    data = SourceEntry(name=manifest.name, licence=manifest.licence, description=described.strip())
    return [data, job.start.source] if job.start else [data]
