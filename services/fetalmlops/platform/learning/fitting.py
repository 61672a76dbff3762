"""Making bundles of bundles: what a model says of a data set, and a new bundle from what that taught."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fetalmlops import __version__
from fetalmlops.domain.contracts.events import Quality
from fetalmlops.domain.contracts.planes import PLANES, Plane, ReleaseStatus
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.adaptation import patient_folds
from fetalmlops.domain.learning.predictions import NO_LABEL, Predictions
from fetalmlops.domain.models.bundle import Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.card import model_card
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.evidence import DataEntry, DriftReference
from fetalmlops.domain.models.manifest import (
    MANIFEST_NAME,
    Calibration,
    DecisionRule,
    Energy,
    InputSpec,
    Levels,
    Manifest,
    PipelineEntry,
    Precision,
    Provenance,
    SourceEntry,
    Variant,
)
from fetalmlops.domain.models.ood import false_alarms, fit_ood
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.domain.models.tensors import write_tensors
from fetalmlops.domain.simulation import SCANNERS, render
from fetalmlops.platform.engines.openvino import OpenVinoEngine, can_run
from fetalmlops.platform.learning.evaluation import Evaluator
from fetalmlops.platform.learning.ledger import note_use

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.adaptation import SiteFit
    from fetalmlops.domain.learning.manifest import ImageEntry
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.manifest import Fit
    from fetalmlops.domain.models.ood import OodReference
    from fetalmlops.platform.inference.graphs import Wrapped
    from fetalmlops.platform.learning.evaluation import ImageSource, Judged

__all__ = [
    "Observed",
    "data_entry",
    "drift_of",
    "fit_scope",
    "fitted_changes",
    "foreign_files",
    "labelled_images",
    "observe",
    "resealed",
    "sources_of",
    "with_drift",
]

_LEVELS: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_LEAST_FOR_SCOPE: Final = 40
_TOLERANCES: Final = {Precision.F32: 0.001, Precision.BF16: 0.05}
_NETWORK: Final = "model.onnx"
_DRIFT: Final = "drift.safetensors"


@dataclass(frozen=True, eq=False)
class Observed:
    """What a bundle says of a data set's labelled images.

    Parameters
    ----------
    predictions
        Its predictions.
    embedding
        Embedding of each image, ``float32`` of [images, length]; length 0 where the bundle gives none.
    qualities
        Quality figures of each image.
    cpu_s
        Processor time of an image on the way of serving, without its reading.
    """

    predictions: Predictions
    embedding: NDArray[np.float32]
    qualities: list[Quality]
    cpu_s: float

    @property
    def sources(self) -> NDArray[np.str_]:
        """Where each image comes from, [images]: its site and scanner, as far as they are known."""
        return sources_of(self.predictions.images)


def sources_of(images: Sequence[ImageEntry]) -> NDArray[np.str_]:
    """Return where each image comes from, [images]: its site and scanner, as far as they are known."""
    return np.array([f"{image.site} {image.scanner}".strip() or "unknown" for image in images], np.str_)


def observe(
    bundle: Bundle,
    data: ImageSource,
    images: Sequence[ImageEntry] | None = None,
    progress: Callable[[], None] = lambda: None,
    purpose: str = "fit of a bundle",
) -> Observed:
    """Run a bundle over labelled images of a data set, the way that serving goes; the use goes into its ledger.

    Parameters
    ----------
    bundle
        The bundle.
    data
        The data set.
    images
        Which of its images; default: all that have a label.
    progress
        Called after each image.
    purpose
        What the ledger says that they are used for.

    Raises
    ------
    ContractError
        If no image has a label, one cannot be read, or the bundle's normalisation is not there.
    """
    images = labelled_images(data) if images is None else images
    embeddings: list[NDArray[np.float32]] = []
    qualities: list[Quality] = []

    def keep(judged: Judged) -> None:
        embeddings.append(judged.output.embedding)
        qualities.append(judged.quality)

    evaluator = Evaluator(bundle)
    predictions = evaluator.predictions(images, data.read, progress, keep)
    manifest = bundle.manifest
    note_use(data, images, f"{manifest.name} {manifest.version}", bundle.digest, purpose)
    return Observed(predictions, np.concatenate(embeddings), qualities, evaluator.timing.cpu_s / len(images))


def labelled_images(data: ImageSource) -> list[ImageEntry]:
    """Return the images of a data set that have a label of a plane.

    Raises
    ------
    ContractError
        If none has.
    """
    images = [image for image in data.manifest.images if image.plane is not None]
    if not images:
        msg = "Expected images with a label of a plane, got none in this data set; label some"
        raise ContractError(msg, reason="data-labels")
    return images


def data_entry(data: ImageSource, role: str) -> DataEntry:
    """Return what a manifest says of a data set, all of whose labelled images had a part."""
    images = labelled_images(data)
    return DataEntry(
        name=data.manifest.name,
        role=role,
        digest=data.digest,
        images=len(images),
        patients=len({image.patient for image in images}),
        licence=data.manifest.licence,
    )


def drift_of(observed: Observed) -> tuple[DriftReference, bytes]:
    """Return what drift is measured from, and the file with mean and variance of the embedding."""
    labels = observed.predictions.labels[observed.predictions.labels != NO_LABEL]
    quality = {
        name: np.quantile([getattr(each, name) for each in observed.qualities], _LEVELS).round(6).tolist()
        for name in Quality.__struct_fields__
    }
    shares = np.bincount(labels, minlength=len(PLANES)) / max(1, len(labels))
    reference = DriftReference(
        levels=[*_LEVELS],
        quality=quality,
        class_prior={str(plane): round(float(share), 6) for plane, share in zip(PLANES, shares, strict=True)},
        images=len(observed.qualities),
    )
    if not observed.embedding.shape[1]:
        return reference, b""
    return reference, write_tensors(
        {"mean": observed.embedding.mean(axis=0), "variance": observed.embedding.var(axis=0)}
    )


def fit_scope(observed: Observed) -> tuple[OodReference, dict[str, float]] | None:
    """Fit the out-of-scope reference on half of the patients and its scale on the other half.

    Returns
    -------
    tuple[OodReference, dict[str, float]] or None
        The reference, and its false alarms on the second half by source. None where the network gives no features or there
        are too few images: the score is then not available.
    """
    features, known = observed.predictions.features, observed.predictions
    held = patient_folds(known.patients, folds=2) == 1
    if not features.shape[1] or min(held.sum(), (~held).sum()) < _LEAST_FOR_SCOPE:
        return None
    sources = observed.sources
    reference = fit_ood(
        features[~held], known.labels[~held], features[held], sources=sources[~held], held_out_sources=sources[held]
    )
    return reference, false_alarms(reference.score(features[held]), sources[held])


def foreign_files(
    wrapped: Wrapped, *, name: str, version: str, licence: str, pipeline: PipelineEntry, fit: Fit, description: str
) -> dict[str, bytes]:
    """Return the files of a bundle of a wrapped network, with a rule that accepts nothing: `resealed` gives it another."""
    manifest = Manifest(
        name=name,
        version=version,
        release_status=ReleaseStatus.CANDIDATE,
        licence=licence,
        parameters=wrapped.parameters,
        planes=[*PLANES],
        brain_planes=[],
        pipeline=pipeline,
        outputs=wrapped.outputs,
        input=InputSpec(rows=wrapped.rows, columns=wrapped.columns, fit=fit, levels=Levels.UNIT),
        calibration=Calibration(),
        decision=DecisionRule(accept=1.0, accept_brain=1.0),
        embedding_length=wrapped.embedding_length,
        variants={
            precision: Variant(file=_NETWORK, tolerance=tolerance) for precision, tolerance in _TOLERANCES.items()
        },
        weights="",
        ood="",
        metrics={},
        sources=[SourceEntry(name="foreign network", licence=licence, description=description)],
        provenance=Provenance(
            recipe="import",
            code=__version__,
            seed=0,
            data_digest="0" * 64,
            environment={},
            seconds=0.0,
            energy=Energy(method="unknown"),
        ),
    )
    empty = Reference(
        _reference_frames(), np.zeros((len(PLANES), len(PLANES)), np.float32), np.zeros((len(PLANES), 0), np.float32)
    )
    return seal_bundle(
        manifest, {_NETWORK: wrapped.network, manifest.reference: empty.to_bytes(), manifest.card: b"\n"}
    )


def resealed(bundle: Bundle, changes: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a new bundle: another's with a changed manifest and some changed files.

    Reference outputs and card are made anew, and the new bundle has passed the technical gate in ``f32``; another precision
    that does not pass it is left out.

    Parameters
    ----------
    bundle
        The bundle that it is made from.
    changes
        Fields of its manifest that are others.
    files
        Its files that are others or new.
    """
    manifest = msgspec.structs.replace(bundle.manifest, **changes)
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME} | {**files}
    contents[manifest.card] = model_card(manifest).encode()
    # An engine of the changed network is needed before its reference outputs are known.
    draft = load_bundle(seal_bundle(manifest, contents))
    contents[manifest.reference] = _reference(draft).to_bytes()
    final = load_bundle(seal_bundle(manifest, contents))
    check_engine(final, OpenVinoEngine(final, precision=Precision.F32))
    kept = {name: each for name, each in manifest.variants.items() if _holds(final, name)}
    unread = {each.file for known in (bundle.manifest, manifest) for each in known.variants.values()}
    unread.add(bundle.manifest.weights)
    unread -= {manifest.weights, *(each.file for each in kept.values())}
    manifest = msgspec.structs.replace(manifest, variants=kept)
    if final.network(Precision.F32) != bundle.network(Precision.F32):
        # Gates told of the network that was.
        manifest = msgspec.structs.replace(manifest, evidence=msgspec.structs.replace(manifest.evidence, gates={}))
    contents[manifest.card] = model_card(manifest).encode()
    return seal_bundle(manifest, {name: data for name, data in contents.items() if name not in unread})


def _holds(bundle: Bundle, precision: Precision) -> bool:
    """Return whether a precision still reproduces the reference outputs, as far as this CPU can tell."""
    if not can_run(precision):
        return True
    try:
        check_engine(bundle, OpenVinoEngine(bundle, precision=precision))
    except ContractError:
        return False
    return True


def fitted_changes(bundle: Bundle, fit: SiteFit, entries: Sequence[DataEntry], **evidence: Any) -> dict[str, Any]:
    """Return the fields of a manifest that a fit to a site changes; `entries` are the data sets that had a part in it."""
    known = bundle.manifest.evidence
    return {
        "calibration": fit.calibration,
        "decision": fit.decision,
        "evidence": msgspec.structs.replace(
            known, thresholds={**fit.thresholds}, data=[*known.data, *entries], **evidence
        ),
    }


def with_drift(observed: Observed) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the fields of the evidence, and the files, that hold the references of drift."""
    reference, data = drift_of(observed)
    return {"drift": reference, "drift_file": _DRIFT if data else None}, {_DRIFT: data} if data else {}


def _reference(bundle: Bundle) -> Reference:
    manifest, frames = bundle.manifest, bundle.reference.frames
    output = OpenVinoEngine(bundle, precision=Precision.F32).infer(prepare(frames, manifest.input).batch)
    planes = softmax(output.logits, manifest.calibration.temperature)
    brain = (
        softmax(output.brain_logits, manifest.calibration.brain_temperature)
        if manifest.brain_planes
        else output.brain_logits
    )
    return Reference(frames, planes.astype(np.float32), brain.astype(np.float32))


def _reference_frames() -> NDArray[np.uint8]:
    """Return simulated frames, one a plane: a bundle carries no picture of a patient."""
    rows, columns = 192, 256
    frames = np.empty((len(PLANES), rows, columns), np.uint8)
    for index, plane in enumerate(PLANES):
        screen = render(Plane(plane), SCANNERS[index % len(SCANNERS)], np.random.default_rng(index)).pixels
        grey = screen if screen.ndim == 2 else screen[..., 1]
        frames[index] = grey[: rows * 2 : 2, : columns * 2 : 2]
    return frames
