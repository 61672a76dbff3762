"""``fetalmlops explain``: what influenced the model, drawn over the frame."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import Annotated

import typer

from fetalmlops.cli.classify import BundleOption  # noqa: TC001 - Typer reads the annotations
from fetalmlops.domain.models.classify import explain as explain_result
from fetalmlops.domain.models.picture import Legend, draw_explanation, top_regions
from fetalmlops.platform.inference.bundles import FETAL_PLANES, open_bundle
from fetalmlops.platform.inference.local import LocalModel
from fetalmlops.platform.settings import load_settings

__all__ = ["explain"]


def explain(
    *,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG or DICOM file.")],
    out: Annotated[Path, typer.Option("--out", help="PNG to write.")],
    bundle: BundleOption = FETAL_PLANES,
) -> None:
    """Draw the class-activation map of an image's likeliest plane over its best frame.

    It shows what influenced the model, not proof. The picture shows the frame as the model saw it: it de-identifies nothing.
    """
    model = LocalModel(open_bundle(load_settings().home, bundle))
    judged = model.judge_file(image)
    result = judged.result
    frame = judged.normalized.frames[result.best]
    grid = explain_result(model.bundle, judged.output, result, *frame.shape)
    number = judged.normalized.frame_numbers[result.best]
    out.write_bytes(draw_explanation(frame, grid, Legend.of(result, model.bundle.manifest, number)))
    typer.echo(f"{result.plane} {result.confidence:.3f}, {result.verdict.decision}")
    for region in top_regions(grid) if grid is not None else ():
        typer.echo(
            f"region at row {region.row:.0%}, column {region.column:.0%} of the frame: {region.share:.0%} of the evidence"
        )
    if grid is None:
        typer.echo("map: not available, the bundle's network gives none")
