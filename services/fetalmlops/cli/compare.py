"""``fetalmlops compare``: bundles on the same images, and which one to take."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from fetalmlops import __version__
from fetalmlops.cli.evaluate import data_facts
from fetalmlops.cli.evaluation.pages import comparison_page, interval_text
from fetalmlops.cli.evaluation.plots import require_plots
from fetalmlops.cli.evaluation.reports import FORMAT, ComparisonReport, VariantFacts, encode_report
from fetalmlops.cli.evaluation.running import WATTS, run_bundle
from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.learning.comparison import RULE, Candidate, pareto
from fetalmlops.domain.learning.comparison import compare as compare_predictions
from fetalmlops.domain.learning.intervals import Sampling
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.summary import labelled
from fetalmlops.platform.inference.bundles import open_bundle
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.intended_use import open_intended_use
from fetalmlops.platform.learning.ledger import read_uses
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.cli.evaluation.running import Run
    from fetalmlops.platform.learning.datasets import Dataset

__all__ = ["compare"]

_INFERIOR: Final = 1


def compare(
    bundles: Annotated[
        list[str], typer.Argument(metavar="A B...", help="Bundles by name or folder; each is compared with A.")
    ],
    *,
    data: Annotated[str, typer.Option(help="Name of `fetalmlops data list`, or a folder with a manifest.")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.html and comparison.json.")],
    split: Annotated[Split, typer.Option(help="Which images.")] = Split.TEST,
    purpose: Annotated[str, typer.Option(help="What for; it goes into the data set's ledger.")] = "comparison",
    margin: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="By how much a plane's recall, and the accuracy, may fall.")
    ] = 0.03,
    replicates: Annotated[int, typer.Option(min=100, help="Draws of patients behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is drawn.")] = 0,
    watts: Annotated[float, typer.Option(min=0.1, help="Power of a busy core, to model the energy with.")] = WATTS,
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write comparison.html.")] = True,
) -> None:
    """Compare bundles on the same images; exits with 1 if one is shown to be inferior to the first."""
    if len(bundles) < 2:
        msg = "Expected two bundles or more, got one; name those to compare"
        raise typer.BadParameter(msg)
    if html:
        require_plots()
    settings, console = load_settings(), Console(stderr=True)
    dataset = open_dataset(settings, data)
    opened = [open_bundle(settings.home, name) for name in bundles]
    runs = [run_bundle(bundle, dataset, split, watts=watts, console=console, purpose=purpose) for bundle in opened]
    variants, unmeasured = _variants(runs, dataset, split, watts=watts, console=console, purpose=purpose)
    sampling = Sampling(replicates, seed)
    comparisons = [
        compare_predictions(runs[0].predictions, run.predictions, margin=margin, sampling=sampling) for run in runs[1:]
    ]
    report = ComparisonReport(
        format=FORMAT,
        release=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        bundles=[run.facts for run in runs],
        data=data_facts(dataset, split),
        level=sampling.level,
        replicates=replicates,
        seed=seed,
        variants=[facts for facts, _ in variants],
        unmeasured=unmeasured,
        comparisons=comparisons,
        energy_growth=[round(run.cost.joules / runs[0].cost.joules - 1, 6) for run in runs[1:]],
        energy_growth_limit=open_intended_use(settings)[0].budgets.energy_growth,
        pareto=pareto([_candidate(run) for _, run in variants], margin),
        rule=RULE,
        margin=margin,
        uses=read_uses(dataset, split),
        seen=[run.seen for run in runs],
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.json").write_bytes(encode_report(report))
    if html:
        (out / "comparison.html").write_text(comparison_page(report), encoding="utf-8")
    _say(report, out, Console())
    if any(each.verdict == "inferior" for each in comparisons):
        raise typer.Exit(_INFERIOR)


def _variants(
    runs: list[Run], dataset: Dataset, split: Split, *, watts: float, console: Console, purpose: str
) -> tuple[list[tuple[VariantFacts, Run]], dict[str, str]]:
    """Return all bundles in all their precisions, the serving one of each first, and why others cannot be run here."""
    found: list[tuple[VariantFacts, Run]] = []
    unmeasured: dict[str, str] = {}
    for index, serving in enumerate(runs):
        bundle = serving.evaluator.bundle
        default, named = bundle.manifest.default_precision, serving.predictions.probabilities.argmax(axis=1)
        for precision in (default, *sorted(set(bundle.manifest.variants) - {default})):
            try:
                run = (
                    serving
                    if precision is default
                    else run_bundle(
                        bundle,
                        dataset,
                        split,
                        watts=watts,
                        console=console,
                        purpose=f"{purpose}, {precision}",
                        precision=precision,
                    )
                )
            except SettingsError as error:
                unmeasured[f"{serving.facts.name} {serving.facts.version} {precision}"] = str(error)
                continue
            agreement = float((run.predictions.probabilities.argmax(axis=1) == named).mean())
            facts = VariantFacts(index, precision, precision is default, round(agreement, 6), run.cost)
            found.append((facts, run))
    return found, unmeasured


def _candidate(run: Run) -> Candidate:
    known = labelled(run.predictions)
    accuracy = float((known.probabilities.argmax(axis=1) == known.labels).mean())
    name = f"{run.facts.name} {run.facts.version} {run.cost.precision}"
    return Candidate(name, round(accuracy, 6), run.cost.latency_ms, run.cost.joules)


def _say(report: ComparisonReport, out: Path, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("bundle", "accuracy", "ms", "J (modelled)", "less the first", "verdict"):
        table.add_column(column, overflow="fold")
    for variant, placed in zip(report.variants, report.pareto, strict=True):
        each = report.comparisons[variant.bundle - 1] if variant.serves and variant.bundle else None
        difference = interval_text(each.differences["accuracy"]) if each else ""
        chosen = " (chosen)" if placed.chosen else " (dominated)" if placed.dominated else ""
        candidate = placed.candidate
        figures = (f"{candidate.accuracy:.3f}", f"{candidate.latency_ms:.1f}", f"{candidate.joules:.3f}")
        table.add_row(candidate.name + chosen, *figures, difference, each.verdict if each else "")
    console.print(table)
    for name, why in report.unmeasured.items():
        console.print(f"not measured: {name}: {why}", highlight=False)
    console.print(f"{report.rule} Margin {report.margin:g}. See {out}", highlight=False)
