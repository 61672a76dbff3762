"""``fetalmlops leave-out``: how a recipe, or bundles at hand, fare on scanners that they have not learnt from."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from fetalmlops import __version__
from fetalmlops.cli.evaluate import data_facts
from fetalmlops.cli.evaluation.pages import interval_text, leave_out_page
from fetalmlops.cli.evaluation.plots import require_plots
from fetalmlops.cli.evaluation.reports import FORMAT, LeaveOutReport, LeftOutFacts, encode_report
from fetalmlops.cli.evaluation.running import run_bundle
from fetalmlops.cli.train import need_training
from fetalmlops.domain.learning.intervals import Sampling
from fetalmlops.domain.learning.leave_out import change_of, groups_to_leave, images_of_group, leave_out_figures
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.summary import part
from fetalmlops.platform.inference.bundles import open_bundle
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.ledger import read_uses
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fetalmlops.cli.evaluation.running import Run
    from fetalmlops.domain.learning.manifest import ImageEntry
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.manifest import DecisionRule
    from fetalmlops.platform.learning.datasets import Dataset
    from fetalmlops.platform.settings import Settings

__all__ = ["By", "leave_out"]

_MOST_RECIPES: Final = 2


class By(StrEnum):
    """What images are grouped by."""

    SCANNER = "scanner"
    OPERATOR = "operator"
    SITE = "site"


def leave_out(
    *,
    data: Annotated[str, typer.Option(help="Name of `fetalmlops data list`, or a folder with a manifest.")],
    out: Annotated[Path, typer.Option(help="Folder for leave-out.html, leave-out.json and the bundles.")],
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Recipe to train with, packaged or a TOML file; give two to compare, such as two pipelines."),
    ] = None,
    made: Annotated[
        list[str] | None,
        typer.Option(metavar="GROUP=BUNDLE", help="In place of a recipe: a bundle that has not learnt from a group."),
    ] = None,
    within: Annotated[str, typer.Option(help="With --made: a bundle that has learnt from all groups.")] = "",
    by: Annotated[By, typer.Option(help="What is left out, one after the other.")] = By.SCANNER,
    purpose: Annotated[str, typer.Option(help="What for; it goes into the data set's ledger.")] = "leave one out",
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep bundles that are whole, and go on with an interrupted training.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads that make batches.")] = max(
        1, (os.cpu_count() or 2) // 2
    ),
    replicates: Annotated[int, typer.Option(min=100, help="Draws of patients behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws; trainings have that of their recipe.")] = 0,
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write leave-out.html.")] = True,
) -> None:
    """Train once per scanner on the images of all others, and judge each bundle by the scanner that it has not seen.

    Training and validation images of the scanner left out have no part. A bundle of all scanners, judged by the same test
    images, tells what that costs: the gap.
    """
    recipes, mapped = recipe or [], _mapped(made or [])
    if bool(recipes) == bool(mapped) or len(recipes) > _MOST_RECIPES or (within and not mapped):
        msg = "Expected --recipe once or twice, or --made for each group and perhaps --within, got another choice"
        raise typer.BadParameter(msg)
    if html:
        require_plots()
    settings, console = load_settings(), Console(stderr=True)
    dataset, sampling = open_dataset(settings, data), Sampling(replicates, seed)
    if recipes:
        sets = _trained(settings, dataset, by, recipes, out / "bundles", resume=resume, threads=threads)
        if sets is None:
            return
        leaving = groups_to_leave(dataset.manifest, by)
        kept, unknown = leaving.kept, leaving.unknown
    else:
        sets = {"bundles at hand": ({"": within} if within else {}) | mapped}
        kept, unknown = {}, 0
    runs = {name: _run(settings, dataset, by, each, purpose, console) for name, each in sets.items()}
    said = [({group: _said(run) for group, run in left.items()}, _by_group(left, all_)) for left, all_ in runs.values()]
    report = LeaveOutReport(
        format=FORMAT,
        release=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        data=data_facts(dataset, Split.TEST),
        by=by,
        level=sampling.level,
        replicates=replicates,
        seed=seed,
        kept=kept,
        unknown=unknown,
        sets=[
            LeftOutFacts.of(name, left, all_, leave_out_figures(*each, sampling=sampling))
            for (name, (left, all_)), each in zip(runs.items(), said, strict=True)
        ],
        change=change_of(said[0], said[1], sampling=sampling) if len(said) > 1 else None,
        uses=read_uses(dataset, Split.TEST),
    )
    (out / "leave-out.json").parent.mkdir(parents=True, exist_ok=True)
    (out / "leave-out.json").write_bytes(encode_report(report))
    if html:
        (out / "leave-out.html").write_text(leave_out_page(report), encoding="utf-8")
    _say(report, out, Console())


def _mapped(made: list[str]) -> dict[str, str]:
    pairs = [each.rpartition("=") for each in made]
    if not all(group and bundle for group, _, bundle in pairs) or len({group for group, _, _ in pairs}) < len(pairs):
        msg = "Expected --made as GROUP=BUNDLE, each group once, got another; write for example --made 'Aloka=other-1.0.0'"
        raise typer.BadParameter(msg)
    return {group: bundle for group, _, bundle in pairs}


def _trained(
    settings: Settings,
    dataset: Dataset,
    by: By,
    recipes: list[str],
    folder: Path,
    *,
    resume: bool,
    threads: int,
) -> dict[str, dict[str, str]] | None:
    """Return the folders of all bundles by recipe, then by group; None in a process that does not lead."""
    need_training()
    from fetalmlops.cli.evaluation.folds import plan_folds, train_folds
    from fetalmlops.cli.training_view import TrainingView
    from fetalmlops.training.places import joined
    from fetalmlops.training.recipe import find_recipe

    found = [find_recipe(name) for name in recipes]
    if len({each.name for each in found}) < len(found):
        msg = "Expected recipes of different names, got one name twice; rename one"
        raise typer.BadParameter(msg)
    groups = groups_to_leave(dataset.manifest, by).groups
    plans = {
        each.name: plan_folds(settings, each, dataset, by, groups, folder=folder, resume=resume, threads=threads)
        for each in found
    }
    with joined() as place, TrainingView(shown=place.leads) as view:
        place.wait()
        for folds in plans.values():
            train_folds(folds, place, view)
        if not place.leads:
            return None
    return {name: {fold.group: str(fold.folder) for fold in folds} for name, folds in plans.items()}


def _run(
    settings: Settings, dataset: Dataset, by: By, names: Mapping[str, str], purpose: str, console: Console
) -> tuple[dict[str, Run], Run | None]:
    """Return the runs of bundles without a group on its test images, by group, and of the one with all on all of these."""
    images = {group: images_of_group(dataset.manifest, by, group) for group in names if group}

    def run(name: str, chosen: list[ImageEntry]) -> Run:
        bundle = open_bundle(settings.home, name)
        return run_bundle(bundle, dataset, Split.TEST, images=chosen, console=console, purpose=purpose)

    left = {group: run(names[group], chosen) for group, chosen in images.items()}
    if "" not in names:
        return left, None
    return left, run(names[""], [image for chosen in images.values() for image in chosen])


def _said(run: Run) -> tuple[Predictions, DecisionRule]:
    return run.predictions, run.evaluator.bundle.manifest.decision


def _by_group(left: Mapping[str, Run], with_all: Run | None) -> dict[str, tuple[Predictions, DecisionRule]]:
    """Return what the bundle with all said of each group's images."""
    if with_all is None:
        return {}
    predictions, rule = _said(with_all)
    found, start = {}, 0
    for group, run in left.items():
        stop = start + len(run.predictions)
        found[group], start = (part(predictions, np.arange(start, stop)), rule), stop
    return found


def _say(report: LeaveOutReport, out: Path, console: Console) -> None:
    for facts in report.sets:
        found = facts.figures
        title = f"{facts.name} on {report.data.name}, each {report.by} left out"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
        for column in (report.by, "images", "patients", "accuracy left out", "accuracy within", "gap"):
            table.add_column(column, justify="left" if column == report.by else "right")
        for group, each in found.groups.items():
            table.add_row(
                group,
                f"{each.images:,}",
                f"{each.patients:,}",
                interval_text(each.left_out["accuracy"]),
                interval_text(each.within.get("accuracy")),
                interval_text(each.gap),
            )
        accuracy = found.left_out["accuracy"]
        table.add_row(
            "all",
            f"{accuracy.images:,}",
            f"{accuracy.patients:,}",
            interval_text(accuracy),
            interval_text(found.within.get("accuracy")),
            interval_text(found.gap),
        )
        console.print(table)
    if report.change is not None:
        one, other = (facts.name for facts in report.sets)
        console.print(
            f"{other} less {one}, accuracy left out: {interval_text(report.change.accuracy)}; "
            f"gap: {interval_text(report.change.gap)}",
            highlight=False,
        )
    for group, why in report.kept.items():
        console.print(f"not left out: {group}, {why}", highlight=False)
    console.print(f"See {out}", highlight=False)
