"""Fine-tuning a bundle to a site: its own network, from its own weights, on the site's images and some of the old site's.

The patients of both sites are parted first. One part is learnt from; the other takes no part in the training, and it alone says
what the new bundle is worth, sets its temperature and its thresholds.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.learning.adaptation import check_planes
from fetalmlops.domain.learning.manifest import DataManifest, Split, encode_data_manifest
from fetalmlops.domain.learning.provenance import TRAINING, recorded, seen_by
from fetalmlops.domain.learning.splits import draw_patients
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.evidence import DataEntry
from fetalmlops.domain.models.manifest import SourceEntry
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.learning.fitting import labelled_images, observe
from fetalmlops.platform.learning.levels import Change
from fetalmlops.training.code import code_digest
from fetalmlops.training.export import load_weights
from fetalmlops.training.fitting import run_frames
from fetalmlops.training.networks import make_network
from fetalmlops.training.recipe import RECIPE_FILE, Choice, decode_recipe, recipe_digest
from fetalmlops.training.session import Job, Start, train

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.manifest import ImageEntry
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.training.loading.frames import DataSource
    from fetalmlops.training.places import Place
    from fetalmlops.training.recipe import Recipe
    from fetalmlops.training.session import Viewer

__all__ = ["ROLE", "Plan", "derived_recipe", "fine_tune", "own_recipe", "plan", "with_validation"]

ROLE: Final = "adaptation, finetune"
"""Role of a site's data set in the manifest of a bundle that was fine-tuned to it."""

_JUDGED: Final = 0.5
_VALIDATION: Final = 0.2
_LEAST_EPOCHS: Final = 5
_LEAST_STEPS: Final = 400
_RATE: Final = 0.2
_FROZEN: Final = 0.35
_START: Final = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """Who is learnt from and who judges.

    Parameters
    ----------
    recipe
        The recipe of the fine-tuning.
    mixed
        Images that are learnt from, of both sites.
    site, kept
        The data sets.
    site_judged, kept_judged
        Images of the patients that take no part in the training.
    """

    recipe: Recipe
    mixed: _Mixed
    site: DataSource
    kept: DataSource | None
    site_judged: list[ImageEntry]
    kept_judged: list[ImageEntry]

    @property
    def text(self) -> str:
        """What a person is told."""
        learnt = [len(source.images) for source in self.mixed.parts]
        kept = f", {learnt[1]} and {len(self.kept_judged)} of the site served so far" if self.kept else ""
        return f"learns from {learnt[0]} images of the site and is judged by {len(self.site_judged)}{kept}"


@dataclass(frozen=True, eq=False)
class _Part:
    source: DataSource
    images: dict[str, ImageEntry]


class _Mixed:
    """Images of several data sets as one; a pseudonym of one says nothing of the same one in another."""

    def __init__(self, parts: Sequence[tuple[DataSource, Sequence[ImageEntry]]], name: str) -> None:
        self.parts = [
            _Part(source, {f"{index}/{number}": image for number, image in enumerate(images)})
            for index, (source, images) in enumerate(parts)
        ]
        entries = [
            msgspec.structs.replace(image, path=path, patient=f"{path.partition('/')[0]} {image.patient}")
            for part in self.parts
            for path, image in part.images.items()
        ]
        licence = "; ".join(dict.fromkeys(part.source.manifest.licence for part in self.parts))
        self.manifest = DataManifest(name=name, layout="mixed", licence=licence, images=entries)
        self.digest = hashlib.sha256(encode_data_manifest(self.manifest)).hexdigest()

    def read(self, entry: ImageEntry) -> NDArray[np.uint8]:
        """Return the decoded image, by the data set that it is of."""
        part = self.parts[int(entry.path.partition("/")[0])]
        return part.source.read(part.images[entry.path])


def own_recipe(bundle: Bundle) -> Recipe:
    """Return the recipe by which a bundle was trained, having checked that its weights are those of its network.

    Raises
    ------
    ContractError
        If it carries no recipe that this release reads, or no weights beside its network (reason ``no-recipe``), as foreign
        ones and those with a changed head do not, or its network does not answer as its weights do (``weights``).
    """
    manifest = bundle.manifest
    networks = {variant.file for variant in manifest.variants.values()}
    if RECIPE_FILE not in bundle.files or manifest.weights in {"", *networks}:
        msg = (
            "Expected a bundle that fetalmlops train made, with its recipe and weights, got one without; choose the level "
            "head or calibrate, fine-tune the bundle that it was made from, or train again"
        )
        raise ContractError(msg, reason="no-recipe")
    try:
        recipe = decode_recipe(bundle.files[RECIPE_FILE])
        network = make_network(recipe.network)
    except SettingsError:
        msg = "Expected a bundle whose recipe this release reads, got another's; train it again by this one"
        raise ContractError(msg, reason="no-recipe") from None
    try:
        load_weights(network, bundle.files[manifest.weights])
    except RuntimeError:
        msg = "Expected weights of the network that the bundle's recipe names, got others; train again"
        raise ContractError(msg, reason="weights") from None
    output = run_frames(network, prepare(bundle.reference.frames, manifest.input).batch)
    found = softmax(output.logits, manifest.calibration.temperature)
    tolerance = manifest.variants[manifest.default_precision].tolerance
    if np.abs(found - bundle.reference.planes).max() > tolerance:
        msg = (
            "Expected weights that answer as the bundle's network, got others: one was changed without the other; "
            "fine-tune the bundle that it was made from"
        )
        raise ContractError(msg, reason="weights")
    return recipe


def derived_recipe(own: Recipe, images: int, *, name: str, version: str, seed: int, again: bool = False) -> Recipe:
    """Return the recipe of a fine-tuning: the bundle's own, but shorter, at a lower rate, and with its first stages fixed.

    Its weights are the mean of those that it began with and those that it ended with. At two simulated sites that took
    a quarter to a third of the gain at the new one, halved the loss at the old one, and narrowed the intervals of both.

    Parameters
    ----------
    own
        The bundle's recipe; one that has fixed stages keeps them.
    images
        How many images are learnt from.
    name, version, seed
        Those of the fine-tuning.
    again
        Whether the bundle's recipe is that of a fine-tuning already, whose rate stays.
    """
    fitting, steps = own.fitting, max(1, images // own.fitting.batch)
    stages = len(make_network(own.network).stages)
    freeze = fitting.freeze or max(1, int(_FROZEN * stages))
    rate = fitting.learning_rate if again else _RATE * fitting.learning_rate
    epochs = max(_LEAST_EPOCHS, math.ceil(_LEAST_STEPS / steps))
    # A few validation images rank epochs by chance, and the rate has fallen to nothing at the last.
    fitting = msgspec.structs.replace(
        fitting,
        epochs=epochs,
        images_per_epoch=0,
        learning_rate=rate,
        freeze=freeze,
        choice=Choice.LAST,
        start_share=_START,
    )
    return msgspec.structs.replace(own, name=name[:48], version=version, seed=seed, init="", fitting=fitting, search={})


def plan(old: Bundle, site: DataSource, kept: DataSource | None, *, seed: int, name: str, version: str) -> Plan:
    """Part the patients of both sites, and derive the recipe.

    Of the old site, what the bundle learnt from already is learnt from again and the rest judges, as far as the bundle tells;
    otherwise half of its patients do. No more images of it are learnt from than of the new site.

    Raises
    ------
    ContractError
        As `own_recipe`, or if too few patients are there to part.
    """
    own = own_recipe(old)
    learnt, judged = _parted(labelled_images(site), _JUDGED, seed)
    check_planes(learnt)
    parts: list[tuple[DataSource, Sequence[ImageEntry]]] = [(site, with_validation(learnt, seed))]
    kept_judged: list[ImageEntry] = []
    if kept is not None:
        images, known = _kept_parts(old, kept, seed)
        kept_learnt = with_validation(_few(images, len(learnt), seed), seed)
        parts.append((kept, kept_learnt))
        kept_judged = known
    mixed = _Mixed(parts, name)
    training = [image for image in mixed.manifest.images if image.split is Split.TRAIN]
    again = any(entry.role == ROLE for entry in old.manifest.evidence.data)
    recipe = derived_recipe(own, len(training), name=name, version=version, seed=seed, again=again)
    return Plan(recipe=recipe, mixed=mixed, site=site, kept=kept, site_judged=judged, kept_judged=kept_judged)


def fine_tune(planned: Plan, old: Bundle, home: Path, place: Place, viewer: Viewer) -> Change:
    """Train, and return what the new network says of the images that took no part.

    Parameters
    ----------
    planned
        Who is learnt from and who judges.
    old
        The bundle to start from.
    home
        State folder: caches, checkpoints and the record lie there.
    place, viewer
        Where, and what is shown how it goes.
    """
    manifest = old.manifest
    described = f"bundle {manifest.version}, digest {old.digest}: fine-tuned from its weights"
    source = SourceEntry(name=manifest.name, licence=manifest.licence, description=described)
    start = Start(old.files[manifest.weights], source, recorded(old))
    trained = train(Job(recipe=planned.recipe, data=planned.mixed, home=home, start=start), place, viewer)
    new = load_bundle(trained.files)
    site, kept = planned.site, planned.kept
    kept_new = kept_before = None
    if kept is not None:
        kept_new = observe(new, kept, planned.kept_judged)
        kept_before = observe(old, kept, planned.kept_judged).predictions
    earlier, digest = manifest.evidence.data, manifest.provenance.data_digest
    if not any(entry.digest == digest for entry in earlier):
        earlier = [DataEntry(name=manifest.name, role=TRAINING, digest=digest), *earlier]
    known = msgspec.structs.replace(
        new.manifest.evidence,
        data=earlier,
        intended_use=manifest.evidence.intended_use,
        code_digest=code_digest(),
        recipe_digest=recipe_digest(planned.recipe),
    )
    return Change(
        bundle=replace(new, manifest=msgspec.structs.replace(new.manifest, evidence=known)),
        site=observe(new, site, planned.site_judged),
        kept=kept_new,
        before=observe(old, site, planned.site_judged).predictions,
        kept_before=kept_before,
    )


def _kept_parts(old: Bundle, kept: DataSource, seed: int) -> tuple[list[ImageEntry], list[ImageEntry]]:
    images = labelled_images(kept)
    seen = seen_by(old, kept.manifest, kept.digest, images).images
    patients = {image.patient for image, had_part in zip(images, seen, strict=True) if had_part}
    fresh = [image for image in images if image.patient not in patients]
    if not patients or not fresh:
        return _parted(images, _JUDGED, seed)
    return [image for image in images if image.patient in patients], fresh


def _parted(images: Sequence[ImageEntry], share: float, seed: int) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """Return the images of two parts of the patients; the second has the share."""
    kinds: defaultdict[str, list[Hashable]] = defaultdict(list)
    for image in images:
        kinds[image.patient].append((image.plane, image.brain_plane))
    drawn = draw_patients(kinds, share=share, seed=seed)
    return [image for image in images if image.patient not in drawn], [
        image for image in images if image.patient in drawn
    ]


def with_validation(images: Sequence[ImageEntry], seed: int) -> list[ImageEntry]:
    """Return images for training, those of a fifth of the patients for validation."""
    training, validation = _parted(images, _VALIDATION, seed)
    return [
        *(msgspec.structs.replace(image, split=Split.TRAIN) for image in training),
        *(msgspec.structs.replace(image, split=Split.VALIDATION) for image in validation),
    ]


def _few(images: list[ImageEntry], count: int, seed: int) -> list[ImageEntry]:
    return images if len(images) <= count else _parted(images, count / len(images), seed)[1]
