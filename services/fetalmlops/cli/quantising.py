"""``fetalmlops bundle quantise``: a bundle's network in bf16 and int8, where that changes little enough."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from fetalmlops.domain.imaging.pipelines import pipeline_of
from fetalmlops.platform.inference.bundles import open_bundle, save_bundle
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.intended_use import open_intended_use
from fetalmlops.platform.settings import load_settings

__all__ = ["quantise_command"]


def quantise_command(
    bundle: Annotated[str, typer.Argument(metavar="B", help="Name of `fetalmlops bundle list`, or a folder.")],
    data: Annotated[str, typer.Option(metavar="DATASET", help="Labelled data with training and validation images.")],
    *,
    version: Annotated[str, typer.Option(help="Version of the new bundle.")],
    name: Annotated[str, typer.Option(help="Name of the new bundle; default: the same.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample that int8 is calibrated by.")] = 1,
) -> None:
    """Make a bundle with the precisions bf16 and int8 of another, each where it passes the gate of the intended use.

    int8 is calibrated by training images, and both are compared with f32 on the validation images, which should be none that
    the bundle was tested by.
    """
    from fetalmlops.cli.train import need_training

    need_training()
    from fetalmlops.domain.models.bundle import load_bundle, seal_bundle
    from fetalmlops.domain.models.manifest import MANIFEST_NAME
    from fetalmlops.training.loading.frames import cache_frames
    from fetalmlops.training.precisions import add_precisions

    settings = load_settings()
    opened, dataset = open_bundle(settings.home, bundle), open_dataset(settings, data)
    manifest = opened.manifest
    frames = cache_frames(
        dataset,
        pipeline_of(manifest.pipeline.name, manifest.pipeline.digest),
        manifest.input,
        settings.home / "training" / "frames",
        lambda *_: None,
    )
    renamed = msgspec.structs.replace(manifest, name=name or manifest.name, version=version)
    files = {file: content for file, content in opened.files.items() if file != MANIFEST_NAME}
    made = add_precisions(seal_bundle(renamed, files), frames, open_intended_use(settings)[0], seed)
    for precision, gate in load_bundle(made).manifest.evidence.gates.items():
        verdict = "passed" if gate.passed else f"failed {', '.join(gate.missed)}"
        typer.echo(
            f"{precision}: {verdict}; same plane in {gate.agreement:.4f} of {gate.images} images of {gate.patients} patients, "
            f"same decision in {gate.decision_agreement:.4f}, macro-F1 lost {gate.macro_f1_loss:.4f}, recall lost at worst "
            f"{gate.worst_plane_loss:.4f} ({gate.worst_plane})"
        )
    typer.echo(save_bundle(settings.home, made).name)
