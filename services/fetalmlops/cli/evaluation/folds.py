"""Bundles for `fetalmlops leave-out`: one training per group that is left out, and one that leaves none out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from fetalmlops.cli.train import read_start, write_bundle
from fetalmlops.domain.errors import FetalMLOpsError, SettingsError
from fetalmlops.domain.learning.leave_out import without
from fetalmlops.domain.learning.manifest import Split, encode_data_manifest, manifest_digest
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.manifest import MANIFEST_NAME
from fetalmlops.platform.inference.bundles import read_bundle_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fetalmlops.cli.training_view import TrainingView
    from fetalmlops.platform.learning.datasets import Dataset
    from fetalmlops.platform.settings import Settings
    from fetalmlops.training.places import Place
    from fetalmlops.training.recipe import Recipe
    from fetalmlops.training.session import Job

__all__ = ["ALL", "Fold", "plan_folds", "train_folds"]

ALL: Final = ""
"""The fold that leaves nothing out."""

_LONGEST_NAME: Final = 48


@dataclass(frozen=True)
class Fold:
    """One training.

    Parameters
    ----------
    group
        The group that is left out; `ALL` for none.
    job
        What is trained.
    folder
        Where its bundle goes.
    done
        Whether the bundle is there already, from the same recipe, data, code and start.
    images
        Labelled images that it is fitted on.
    """

    group: str
    job: Job
    folder: Path
    done: bool
    images: int


def plan_folds(
    settings: Settings,
    recipe: Recipe,
    dataset: Dataset,
    by: str,
    groups: Sequence[str],
    *,
    folder: Path,
    resume: bool,
    threads: int,
) -> list[Fold]:
    """Return the trainings that leave out each group of a data set, and first the one that leaves out none.

    Parameters
    ----------
    settings
        The settings.
    recipe
        The recipe; each bundle is named after it and its group.
    dataset, by, groups
        The data set, what its images are grouped by, and the groups.
    folder
        Where the bundles go, a folder each.
    resume
        Whether bundles that are there are kept, and an interrupted training is gone on with.
    threads
        Threads that make batches.
    """
    from fetalmlops.training.session import Job

    start, folds = read_start(settings, recipe.init), []
    named = {group: _named(recipe, group) for group in (ALL, *groups)}
    if len({each.name for each in named.values()}) < len(named):
        msg = "Expected groups whose bundles have different names, got some with one; shorten the recipe's name"
        raise SettingsError(msg)
    for group, own in named.items():
        manifest = without(dataset.manifest, by, group)
        digest = manifest_digest(encode_data_manifest(manifest))
        shown = replace(dataset, manifest=manifest, digest=digest)
        job = Job(recipe=own, data=shown, home=settings.home, start=start, resume=resume, threads=threads)
        place = folder / own.name
        images = sum(image.plane is not None for image in manifest.of(Split.TRAIN))
        folds.append(Fold(group, job, place, resume and _is_made(place, job), images))
    return folds


def train_folds(folds: Sequence[Fold], place: Place, view: TrainingView) -> None:
    """Train those folds that are not done, and write their bundles."""
    from fetalmlops.training.session import train

    for number, fold in enumerate(folds, 1):
        what = f"without {fold.group}" if fold.group else "with all"
        view.say(f"{fold.job.recipe.name} ({number} of {len(folds)}): {what}, {fold.images:,} images")
        if fold.done:
            view.say(f"  is there: {fold.folder}")
            continue
        trained = train(fold.job, place, view)
        if place.leads:
            write_bundle(fold.folder, trained.files)


def _named(recipe: Recipe, group: str) -> Recipe:
    slug = re.sub(r"[^a-z0-9]+", "-", group.lower()).strip("-")
    name = f"{recipe.name}-without-{slug}" if group else f"{recipe.name}-with-all"
    return msgspec.structs.replace(recipe, name=name[:_LONGEST_NAME].rstrip("-"))


def _is_made(folder: Path, job: Job) -> bool:
    """Return whether a folder holds the bundle of a job; one that cannot be read is made again."""
    from fetalmlops.training.code import code_digest
    from fetalmlops.training.recipe import recipe_digest

    if not (folder / MANIFEST_NAME).is_file():
        return False
    try:
        manifest = load_bundle(read_bundle_folder(folder)).manifest
    except FetalMLOpsError:
        return False
    known = manifest.provenance
    return (
        known.data_digest == job.data.digest
        and known.recipe.endswith(f"sha256:{recipe_digest(job.recipe)}")
        and known.environment.get("code") == f"sha256:{code_digest()}"
        and (not job.start or job.start.source in manifest.sources)
    )
