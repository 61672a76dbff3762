"""``fetalmlops adapt``: a bundle fitted to a site by its labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fetalmlops.cli.classify import BundleOption  # noqa: TC001 - Typer reads the annotations
from fetalmlops.domain.contracts.planes import PLANES, ReleaseStatus
from fetalmlops.domain.learning.adaptation import SiteFit, calibrate_site, check_planes, check_site
from fetalmlops.domain.learning.benefit import SHOWN, Benefit, check_benefit, difference_text, evident, weigh
from fetalmlops.domain.learning.provenance import IMAGES_FILE, record_of, recorded, seen_by
from fetalmlops.platform.inference.bundles import open_bundle, save_bundle
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.fitting import (
    Observed,
    data_entry,
    fitted_changes,
    labelled_images,
    observe,
    resealed,
    with_drift,
)
from fetalmlops.platform.learning.levels import Change, with_head
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.learning.datasets import Dataset

__all__ = ["Level", "Wish", "adapt", "fit_site"]


class Level(StrEnum):
    """How much of a model is changed."""

    CALIBRATE = "calibrate"
    HEAD = "head"
    FINETUNE = "finetune"


def adapt(
    *,
    bundle: BundleOption,
    labels: Annotated[str, typer.Option("--labels", metavar="D", help="Data set of the site's labelled images.")],
    level: Annotated[
        Level, typer.Option(help="calibrate: numbers only; head: the last layer too; finetune: all layers.")
    ],
    keep: Annotated[
        str, typer.Option(metavar="D", help="Labelled images of the site served so far: it gets no worse.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the new bundle; default: the old one's and the data set's.")] = "",
    version: Annotated[str, typer.Option(help="Version of the new bundle.")] = "1.0.0",
    risk: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Wished share of patients with an accepted error.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fine-tuning, and of the patients it is judged by.")] = 0,
) -> None:
    """Make a new bundle that fits a site. The old one stays as it is.

    Every figure that is told comes from patients that had no part in the fit. Images of one plane only, and too few patients,
    are refused; so is a changed network that is not shown to do better there, and no worse on the images of --keep.
    """
    settings = load_settings()
    old, data = open_bundle(settings.home, bundle), open_dataset(settings, labels)
    name = name or f"{old.manifest.name}-{data.manifest.name}"
    wish = Wish(level=level, name=name, version=version, risk=risk, seed=seed)
    fit_site(settings.home, old, data, open_dataset(settings, keep) if keep else None, wish)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is wished of a new bundle; the parameters are the options of `adapt`."""

    level: Level
    name: str
    version: str = "1.0.0"
    risk: float = 0.05
    seed: int = 0


def fit_site(home: Path, old: Bundle, data: Dataset, kept: Dataset | None, wish: Wish) -> Path | None:
    """Make and save a new bundle that fits a site, and say what it is worth.

    Parameters
    ----------
    home
        State folder.
    old
        The bundle to fit; it stays as it is.
    data, kept
        Labelled images of the site, and of the one served so far.
    wish
        What is wished of the new one.

    Returns
    -------
    Path or None
        Folder of the new bundle; None where images of one plane were reported only.
    """
    images = labelled_images(data)
    if (seen := seen_by(old, data.manifest, data.digest, images)).count:
        typer.echo(f"warning: {seen}; figures on these images say too much good", err=True)
    if len({image.plane for image in images}) < 2 and wish.level is Level.CALIBRATE:
        _report_one_class(observe(old, data), str(images[0].plane), old)
        return None
    check_site(images, wish.risk)
    if wish.level is not Level.CALIBRATE:
        check_planes(images)
    change = (
        _fine_tuned(home, old, data, kept, wish)
        if wish.level is Level.FINETUNE
        else _numbers_or_head(old, data, kept, wish.level)
    )
    kept_after = change.kept.predictions if change.kept else None
    fit = calibrate_site(change.site.predictions, change.bundle.manifest.decision, target=wish.risk, kept=kept_after)
    benefit = weigh(change.before, fit.held, change.kept_before, fit.kept_held)
    _report(fit, benefit, wish.risk)
    if wish.level is not Level.CALIBRATE:
        check_benefit(benefit)
    folder = save_bundle(home, _sealed(old, change, fit, benefit, data, kept, wish))
    typer.echo(f"{folder.name}: made of {old.manifest.name} {old.manifest.version}, level {wish.level}")
    return folder


def _numbers_or_head(old: Bundle, data: Dataset, kept: Dataset | None, level: Level) -> Change:
    site, kept_observed = observe(old, data), observe(old, kept) if kept else None
    if level is Level.HEAD:
        return with_head(old, site, kept_observed)
    kept_before = kept_observed.predictions if kept_observed else None
    return Change(bundle=old, site=site, kept=kept_observed, before=site.predictions, kept_before=kept_before)


def _fine_tuned(home: Path, old: Bundle, data: Dataset, kept: Dataset | None, wish: Wish) -> Change:
    from fetalmlops.cli.train import need_training

    need_training()
    from fetalmlops.cli.training_view import TrainingView
    from fetalmlops.training.finetuning import fine_tune, plan
    from fetalmlops.training.places import joined

    planned = plan(old, data, kept, seed=wish.seed, name=wish.name, version=wish.version)
    check_site(planned.site_judged, wish.risk, use=" to judge by, beside those to learn from")
    typer.echo(planned.text, err=True)
    with joined() as place, TrainingView() as view:
        return fine_tune(planned, old, home, place, view)


def _sealed(
    old: Bundle, change: Change, fit: SiteFit, benefit: Benefit, data: Dataset, kept: Dataset | None, wish: Wish
) -> dict[str, bytes]:
    entries = [data_entry(data, f"adaptation, {wish.level}")]
    record = record_of(labelled_images(data))
    figures = {f"{data.manifest.name}, less the bundle before": evident(benefit.site)}
    if kept:
        entries.append(data_entry(kept, f"adaptation, {wish.level}, kept"))
        record = record.joined(record_of(labelled_images(kept)))
    if benefit.kept and kept:
        figures[f"{kept.manifest.name}, less the bundle before"] = evident(benefit.kept)
    drift, files = with_drift(change.site)
    files[IMAGES_FILE] = recorded(old).joined(record).to_bytes()
    evidence: dict[str, Any] = {**drift, "figures": figures, "adapted_from": old.digest, "images_file": IMAGES_FILE}
    if wish.level is not Level.CALIBRATE:
        # Measured on another network.
        evidence |= {"faithfulness": {}, "serving_joules": None}
    if fit.decision.ood_limit != old.manifest.decision.ood_limit or wish.level is Level.FINETUNE:
        evidence["false_alarms"] = {}
    changes = change.fields | fitted_changes(change.bundle, fit, entries, **evidence)
    changes |= {"name": wish.name, "version": wish.version}
    if old.manifest.release_status is not ReleaseStatus.DEMONSTRATION:
        changes["release_status"] = ReleaseStatus.CANDIDATE
    return resealed(change.bundle, changes, change.files | files)


def _report(fit: SiteFit, benefit: Benefit, risk: float) -> None:
    threshold = fit.thresholds["planes"]
    met = "met" if threshold.met else "not met: more patients, or fewer errors, are needed"
    typer.echo(f"temperature {fit.calibration.temperature:.3f}")
    for where, comparison in (("the site", benefit.site), ("the site served so far", benefit.kept)):
        if comparison is None:
            typer.echo(f"{where}: not judged, give labelled images of it by --keep")
            continue
        typer.echo(f"{where}, new less old on {comparison.images} images of {comparison.patients} other patients:")
        for figure in SHOWN:
            typer.echo(f"  {figure.replace('_', ' ')} {difference_text(comparison.differences[figure])}")
    typer.echo(f"accepted from {fit.decision.accept:.3f} on, out of scope above {fit.decision.ood_limit:.3f}")
    typer.echo(
        f"risk {risk:g}: {met}; upper bound {threshold.bound:.3f}, {threshold.errors} of {threshold.patients} patients"
    )


def _report_one_class(observed: Observed, plane: str, old: Bundle) -> None:
    known = observed.predictions
    right = float((known.probabilities.argmax(axis=1) == PLANES.index(plane)).mean())
    typer.echo(f"all {len(known)} labels are {plane}: reported only, no bundle is made")
    typer.echo(f"named {plane}: {right:.3f}; mean confidence {float(known.probabilities.max(axis=1).mean()):.3f}")
    if old.ood is not None:
        typer.echo(f"out of scope: {float((known.ood > old.manifest.decision.ood_limit).mean()):.3f}")
