"""``fetalmlops tune``: search the ranges that a recipe names, and count what the search itself took."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.cli.train import need_training
from fetalmlops.domain.learning.manifest import Split, encode_data_manifest, manifest_digest
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.training.recipe import Recipe
    from fetalmlops.training.search import Trial

__all__ = ["tune"]


def tune(
    recipe: Annotated[str, typer.Option(help="Name of a packaged recipe, or a TOML file, with a table [search].")],
    data: Annotated[str, typer.Option(help="Name of a data set, or a folder with a manifest.")],
    *,
    trials: Annotated[int, typer.Option(min=1, help="Recipes to draw.")] = 8,
    out: Annotated[Path, typer.Option(help="File for the best recipe.")] = Path("tuned.toml"),
    threads: Annotated[int, typer.Option(min=1, help="Threads that make batches.")] = max(
        1, (os.cpu_count() or 2) // 2
    ),
) -> None:
    """Train drawn recipes, go on with the better half, and write the best recipe.

    The test images take no part: trials are compared on the validation images.
    """
    need_training()
    import msgspec

    from fetalmlops.cli.training_view import TrainingView
    from fetalmlops.platform.learning.datasets import open_dataset
    from fetalmlops.training.places import joined
    from fetalmlops.training.recipe import encode_recipe, find_recipe
    from fetalmlops.training.search import Trial, halve
    from fetalmlops.training.session import Job, train

    settings, found = load_settings(), find_recipe(recipe)
    opened = open_dataset(settings, data)
    seen = [image for image in opened.manifest.images if image.split is not Split.TEST]
    manifest = msgspec.structs.replace(opened.manifest, images=seen)
    shown = replace(opened, manifest=manifest, digest=manifest_digest(encode_data_manifest(manifest)))

    with joined() as place, TrainingView() as view:

        def run(number: int, drawn: Recipe) -> Trial:
            view.say(f"trial {number + 1}: {drawn.fitting.epochs} epochs, {_changed(drawn)}")
            job = Job(recipe=drawn, data=shown, home=settings.home, threads=threads, purpose="search")
            return Trial.of(number, drawn, train(job, place, view))

        done = halve(found, trials, run)
    best = max(
        (trial for trial in done if trial.recipe.fitting.epochs == found.fitting.epochs), key=lambda trial: trial.score
    )
    out.write_bytes(encode_recipe(msgspec.structs.replace(best.recipe, name=f"{found.name}-tuned")))
    _show(done)
    typer.echo(f"{out}: trial {best.number + 1}, macro-F1 {best.score:.4f} on validation")


def _show(done: Sequence[Trial]) -> None:
    from fetalmlops.training.search import efficient

    front = efficient(done)
    table = Table("trial", "epochs", "macro-F1", "ms an image", "J to train", "efficient", "changed")
    for trial in sorted(done, key=lambda each: -each.score):
        table.add_row(
            str(trial.number + 1),
            str(trial.recipe.fitting.epochs),
            f"{trial.score:.4f}",
            f"{trial.latency:.2f}",
            "unknown" if trial.joules is None else f"{trial.joules:.0f}",
            "yes" if trial in front else "",
            _changed(trial.recipe),
        )
    Console().print(table)
    joules = [trial.joules for trial in done if trial.joules is not None]
    typer.echo(f"the search took {sum(joules):,.0f} J (modelled), {len(joules)} of {len(done)} trainings metered")


def _changed(recipe: Recipe) -> str:
    import msgspec

    fields = msgspec.to_builtins(recipe)
    found = []
    for place in sorted(recipe.search):
        value = fields
        for name in place.split("."):
            value = value[name]
        found.append(f"{place} {value:.3g}" if isinstance(value, float) else f"{place} {value}")
    return ", ".join(found)
