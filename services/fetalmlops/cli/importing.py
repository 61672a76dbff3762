"""``fetalmlops bundle import``: a full bundle of a foreign classifier; what it cannot support is not available."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import Annotated, Final

import typer

from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.pipelines import HARMONISED, find_pipeline
from fetalmlops.domain.learning.adaptation import calibrate_site, check_site
from fetalmlops.domain.learning.provenance import IMAGES_FILE, record_of
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.manifest import Fit, PipelineEntry
from fetalmlops.platform.inference.bundles import save_bundle
from fetalmlops.platform.inference.graphs import read_labels, wrap_classifier
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.fitting import (
    data_entry,
    fit_scope,
    fitted_changes,
    foreign_files,
    labelled_images,
    observe,
    resealed,
    with_drift,
)
from fetalmlops.platform.settings import load_settings

__all__ = ["import_command", "read_preprocess"]

_NAMED: Final = {
    "unit": ((0.0,), (1.0,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
}


def import_command(
    *,
    model: Annotated[Path, typer.Argument(help="ONNX with one input [images, 1 or 3, rows, columns], or safetensors.")],
    labels: Annotated[str, typer.Option(help="Plane of each class, in order, with commas; - for none of the planes.")],
    calibrate: Annotated[str, typer.Option(metavar="DATASET", help="Labelled images that the model has not seen.")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")],
    preprocess: Annotated[
        str, typer.Option(help="imagenet, half, unit, or MEAN/DEVIATION of levels from 0 to 1, channels with commas.")
    ] = "imagenet",
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    licence: Annotated[str, typer.Option(help="Licence of the model.")] = "unknown",
    pipeline: Annotated[str, typer.Option(help="Normalisation that makes its frames.")] = HARMONISED,
    stretch: Annotated[bool, typer.Option("--stretch", help="Stretch frames to its input.")] = False,
    risk: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Wished share of patients with an accepted error.")
    ] = 0.05,
    architecture: Annotated[str, typer.Option(help="For safetensors: name of the network in timm.")] = "",
    size: Annotated[int, typer.Option(min=16, max=1024, help="For safetensors: rows and columns of its input.")] = 224,
) -> None:
    """Make a bundle of a foreign classifier: wrapped, calibrated, with thresholds, and sealed.

    What its network does not give (brain sub-planes; embedding and maps, where they cannot be had from its graph) is not
    available, in the manifest and in every result.
    """
    classes = read_labels(labels)
    mean, deviation = read_preprocess(preprocess)
    settings = load_settings()
    data = open_dataset(settings, calibrate)
    wrapped = wrap_classifier(_onnx_of(model, architecture, len(classes), size), classes, mean, deviation)
    entry = PipelineEntry(name=pipeline, digest=find_pipeline(pipeline).digest)
    fit = Fit.STRETCH if stretch else Fit.PAD
    description = f"imported from {model.suffix.lstrip('.').upper()}"
    draft = load_bundle(
        foreign_files(
            wrapped, name=name, version=version, licence=licence, pipeline=entry, fit=fit, description=description
        )
    )
    check_site(labelled_images(data), risk)
    observed = observe(draft, data)
    site = calibrate_site(observed.predictions, draft.manifest.decision, target=risk)
    scope = fit_scope(observed)
    drift, files = with_drift(observed)
    # What the foreign network itself learnt from nobody says.
    files[IMAGES_FILE] = record_of(observed.predictions.images, complete=False).to_bytes()
    evidence = {
        **drift,
        "images_file": IMAGES_FILE,
        "planes_never_named": [*wrapped.never_named],
        "false_alarms": scope[1] if scope else {},
    }
    changes = fitted_changes(draft, site, [data_entry(data, "calibration")], **evidence)
    if scope:
        changes["ood"] = "ood.safetensors"
        files["ood.safetensors"] = scope[0].to_bytes()
    sealed = resealed(draft, changes, files)
    folder = save_bundle(settings.home, sealed)
    lacking = ", ".join(load_bundle(sealed).manifest.lacking) or "nothing"
    met = "met" if site.thresholds["planes"].met else "not met"
    typer.echo(
        f"{folder.name}: temperature {site.calibration.temperature:.3f}, accepted from {site.decision.accept:.3f} on"
    )
    typer.echo(f"risk {risk:g}: {met}, upper bound {site.thresholds['planes'].bound:.3f}; not available: {lacking}")


def read_preprocess(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read mean and deviation of an input.

    Raises
    ------
    SettingsError
        If it is neither a name nor two lists of numbers, the second of them positive.

    Examples
    --------
    >>> read_preprocess("0.5/0.25")
    ((0.5,), (0.25,))
    """
    if text in _NAMED:
        return _NAMED[text]
    try:
        mean, deviation = (tuple(float(word) for word in part.split(",")) for part in text.split("/"))
    except ValueError:
        mean, deviation = (), (0.0,)
    if not mean or min(deviation) <= 0:
        msg = f"Expected {', '.join(_NAMED)}, or MEAN/DEVIATION such as 0.5/0.25, got another; mend --preprocess"
        raise SettingsError(msg)
    return mean, deviation


def _onnx_of(model: Path, architecture: str, classes: int, size: int) -> bytes:
    try:
        data = model.read_bytes()
    except OSError as error:
        msg = f"Expected a model that can be read, got {error.strerror}; name another file"
        raise SettingsError(msg) from None
    if model.suffix != ".safetensors":
        return data
    if not architecture:
        msg = "Expected --architecture with weights in safetensors, got none: name it as timm does"
        raise SettingsError(msg)
    try:
        from fetalmlops.training.foreign import export_timm
    except ImportError:
        msg = "Expected torch and timm, got none; install the train extra: pip install 'fetalmlops[train]'"
        raise SettingsError(msg) from None
    return export_timm(architecture, data, classes, size)
