"""``fetalmlops train``: from a recipe and a data set to a bundle."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.files import replace_file
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.models.manifest import Manifest
    from fetalmlops.platform.settings import Settings
    from fetalmlops.training.session import Start

__all__ = ["need_training", "read_start", "train", "write_bundle"]

_SHOWN = {"accuracy", "macro_f1", "brain_macro_f1", "expected_calibration_error"}
_PARTS = ("torch", "timm", "onnx", "mlflow", "codecarbon")


def train(
    recipe: Annotated[str, typer.Option(help="Name of a packaged recipe, or a TOML file.")],
    data: Annotated[str, typer.Option(help="Name of a data set, or a folder with a manifest.")],
    *,
    init: Annotated[
        str, typer.Option(help="Weights to start from: a name of weights add, or a bundle's name or folder.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the bundle; default: bundles/NAME-VERSION.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed than the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Other epochs than the recipe's.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run of the same job stopped.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads that make batches.")] = max(
        1, (os.cpu_count() or 2) // 2
    ),
) -> None:
    """Train a network, calibrate and measure it, and seal a bundle.

    Several GPUs: torchrun --nproc-per-node 4 --no-python fetalmlops train ...
    """
    need_training()
    import msgspec

    from fetalmlops.cli.training_view import TrainingView
    from fetalmlops.domain.models.bundle import load_bundle
    from fetalmlops.platform.learning.datasets import open_dataset
    from fetalmlops.platform.learning.intended_use import open_intended_use
    from fetalmlops.training.evidence import Judge
    from fetalmlops.training.places import joined
    from fetalmlops.training.recipe import find_recipe
    from fetalmlops.training.session import Job
    from fetalmlops.training.session import train as run

    settings, found = load_settings(), find_recipe(recipe)
    fitting = msgspec.structs.replace(found.fitting, epochs=epochs or found.fitting.epochs)
    found = msgspec.structs.replace(found, fitting=fitting, seed=found.seed if seed is None else seed)
    job = Job(
        recipe=found,
        data=open_dataset(settings, data),
        home=settings.home,
        start=read_start(settings, init or found.init),
        resume=resume,
        threads=threads,
        judge=Judge(*open_intended_use(settings)),
    )
    with joined() as place, TrainingView(shown=place.leads) as view:
        trained = run(job, place, view)
        if not place.leads:
            return
        folder = out or settings.home / "bundles" / f"{found.name}-{found.version}"
        write_bundle(folder, trained.files)
        for line in _said(load_bundle(trained.files).manifest):
            view.say(line)
        view.say(f"{folder}: {sum(map(len, trained.files.values())) / 1e6:.1f} MB")


def _said(manifest: Manifest) -> Iterator[str]:
    """Yield the chief figures of a training; the card has all of them."""
    for data, figures in manifest.evidence.figures.items():
        for name in sorted(_SHOWN.intersection(figures)):
            found = figures[name]
            yield (
                f"{data}: {name} {found.value:.4f} [{found.low:.4f}, {found.high:.4f}], {found.images} images of "
                f"{found.patients} patients"
            )
    for name, gate in manifest.evidence.gates.items():
        yield f"{name}: {'passed its gate' if gate.passed else 'left out, failed ' + ', '.join(gate.missed)}"


def need_training() -> None:
    """Check that the packages of the train extra are there.

    Raises
    ------
    SettingsError
        If one is missing; the text says what to install.
    """
    if missing := [name for name in _PARTS if importlib.util.find_spec(name) is None]:
        msg = f'Expected the train extra, got no {", ".join(missing)}; install it: pip install "fetalmlops[train]"'
        raise SettingsError(msg)


def write_bundle(folder: Path, files: dict[str, bytes]) -> None:
    """Write a bundle's files, the manifest last: a folder with a manifest holds a whole bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(files.items(), key=lambda item: item[0] == "manifest.json"):
        replace_file(folder / name, content)


def read_start(settings: Settings, name: str) -> Start | None:
    """Return the weights of a name, or of a bundle's folder; None for an empty name.

    Raises
    ------
    SettingsError
        If there are none.
    FetalMLOpsError
        If the bundle or the weights differ from their digests.
    """
    if not name:
        return None
    from fetalmlops.domain.learning.provenance import recorded
    from fetalmlops.domain.models.bundle import load_bundle
    from fetalmlops.domain.models.manifest import MANIFEST_NAME, SourceEntry
    from fetalmlops.platform.inference.bundles import read_bundle_folder
    from fetalmlops.platform.learning.weights import open_weights
    from fetalmlops.training.session import Start

    for folder in (settings.home / "bundles" / name, Path(name)):
        if (folder / MANIFEST_NAME).is_file():
            bundle = load_bundle(read_bundle_folder(folder))
            manifest = bundle.manifest
            described = f"bundle {manifest.version}, digest {bundle.digest}: training started from its weights"
            source = SourceEntry(name=manifest.name, licence=manifest.licence, description=described)
            return Start(bundle.files[manifest.weights], source, recorded(bundle))
    record, data = open_weights(settings, name)
    return Start(data, SourceEntry(name=record.name, licence=record.licence, description=record.source))
