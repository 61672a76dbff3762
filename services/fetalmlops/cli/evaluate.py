"""``fetalmlops evaluate``: every figure of a bundle on a data set, held against the intended use."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from fetalmlops import __version__
from fetalmlops.cli.evaluation.pages import evaluation_page, interval_text
from fetalmlops.cli.evaluation.plots import require_plots
from fetalmlops.cli.evaluation.reports import FORMAT, EvaluationReport, UseFacts, encode_report, predictions_table
from fetalmlops.cli.evaluation.running import WATTS, DataFacts, progress_bar, run_bundle
from fetalmlops.domain.learning.gates import GateStatus, Measured, junit, run_gates
from fetalmlops.domain.learning.intervals import Sampling
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.summary import labelled, summarise_predictions
from fetalmlops.platform.inference.bundles import open_bundle
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.intended_use import open_intended_use
from fetalmlops.platform.learning.ledger import read_uses
from fetalmlops.platform.learning.trials import OVERLAYS_REMOVED, run_trials, trial_images
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.cli.evaluation.running import Run
    from fetalmlops.domain.learning.gates import GateResult
    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.learning.summary import Summary
    from fetalmlops.platform.learning.datasets import Dataset
    from fetalmlops.platform.learning.trials import Trials

__all__ = ["EXIT_FAILED", "EXIT_NOT_EVALUABLE", "evaluate"]

EXIT_FAILED: Final = 1
"""Exit code with --gates where a gate failed."""

EXIT_NOT_EVALUABLE: Final = 3
"""Exit code with --gates where none failed, but some could not be evaluated."""

_COLOURS: Final = {GateStatus.PASSED: "green", GateStatus.FAILED: "red", GateStatus.NOT_EVALUABLE: "yellow"}
_SHOWN: Final = (
    "accuracy",
    "macro_f1",
    "brain_macro_f1",
    "expected_calibration_error",
    "accepted",
    "accuracy_of_accepted",
)


def evaluate(
    *,
    bundle: Annotated[str, typer.Option(help="Name of `fetalmlops bundle list`, or a folder.")],
    data: Annotated[str, typer.Option(help="Name of `fetalmlops data list`, or a folder with a manifest.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json, gates.xml and predictions.csv.")],
    split: Annotated[Split, typer.Option(help="Which images.")] = Split.TEST,
    purpose: Annotated[str, typer.Option(help="What for; it goes into the data set's ledger.")] = "evaluation",
    intended_use: Annotated[
        Path | None,
        typer.Option(help="File with the thresholds; default: the state folder's, else the packaged proposal."),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(min=0, help="Images to change for the tests of behaviour and of explanations; 0 leaves them out."),
    ] = 200,
    replicates: Annotated[int, typer.Option(min=100, help="Draws of patients behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is drawn.")] = 0,
    watts: Annotated[float, typer.Option(min=0.1, help="Power of a busy core, to model the energy with.")] = WATTS,
    gates: Annotated[
        bool, typer.Option("--gates", help="Exit with 1 if a gate failed, with 3 if one could not be evaluated.")
    ] = False,
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write report.html.")] = True,
) -> None:
    """Evaluate a bundle on a data set: figures with intervals over patients, behaviour, explanations, gates."""
    settings = load_settings()
    if html:
        require_plots()
    use, use_digest = open_intended_use(settings, intended_use)
    dataset, console = open_dataset(settings, data), Console(stderr=True)
    run = run_bundle(open_bundle(settings.home, bundle), dataset, split, watts=watts, console=console, purpose=purpose)
    rule = run.evaluator.bundle.manifest.decision
    sampling = Sampling(replicates, seed, use.accuracy.interval)
    summary = summarise_predictions(run.predictions, rule, target_risk=use.selective.risk, sampling=sampling)
    tried = _try(run, dataset, trials, sampling, console) if trials else None
    report = EvaluationReport(
        format=FORMAT,
        release=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        bundle=run.facts,
        data=data_facts(dataset, split),
        intended_use=UseFacts(use.version, use_digest, use.status),
        level=sampling.level,
        replicates=replicates,
        seed=seed,
        summary=summary,
        cost=run.cost,
        trials=tried,
        gates=_gates(use, summary, run, tried),
        uses=read_uses(dataset, split),
        seen=run.seen,
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_bytes(encode_report(report))
    (out / "gates.xml").write_bytes(junit(report.gates, f"{run.facts.name} {run.facts.version} on {data}"))
    (out / "predictions.csv").write_text(predictions_table(run.predictions, rule), encoding="utf-8")
    if html:
        (out / "report.html").write_text(evaluation_page(report, use), encoding="utf-8")
    _say(report, out, Console())
    if gates:
        _exit(report.gates)


def data_facts(dataset: Dataset, split: Split) -> DataFacts:
    """Return what a report says of its data."""
    manifest = dataset.manifest
    return DataFacts(manifest.name, dataset.digest, manifest.layout, manifest.licence, split)


def _try(run: Run, dataset: Dataset, images: int, sampling: Sampling, console: Console) -> Trials:
    known = labelled(run.predictions)
    total = trial_images(min(images, len(known)), explained="maps" in run.evaluator.bundle.manifest.outputs)
    with progress_bar(console, "trials", total) as step:
        return run_trials(run.evaluator, dataset, known, images=images, sampling=sampling, progress=step)


def _gates(use: IntendedUse, summary: Summary, run: Run, tried: Trials | None) -> list[GateResult]:
    measured = Measured(
        latency_p95_ms=run.cost.latency_p95_ms,
        joules=run.cost.joules,
        overlay_gap=tried.accuracy_lost[OVERLAYS_REMOVED] if tried else None,
        foreign=tried.foreign if tried else None,
        images=run.cost.images,
    )
    return run_gates(use, summary, measured)


def _say(report: EvaluationReport, out: Path, console: Console) -> None:
    summary = report.summary
    title = f"{report.bundle.name} {report.bundle.version} on {report.data.name}, {report.data.split}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("figure")
    table.add_column(f"value ({100 * report.level:g} % interval)", justify="right")
    for name in _SHOWN:
        if name in summary.figures:
            table.add_row(name.replace("_", " "), interval_text(summary.figures[name]))
    console.print(table)
    console.print(f"{summary.images:,} labelled images of {summary.patients:,} patients", highlight=False)
    for status in GateStatus:
        found = [gate for gate in report.gates if gate.status is status]
        if found:
            names = "" if status is GateStatus.PASSED else ": " + ", ".join(gate.name for gate in found)
            console.print(f"[{_COLOURS[status]}]{len(found)} gates {status}[/]{names}", highlight=False)
    count = len(report.uses)
    console.print(
        f"this {report.data.split} set has been used {count} time{'' if count == 1 else 's'}; see {out}",
        highlight=False,
    )


def _exit(results: list[GateResult]) -> None:
    statuses = {result.status for result in results}
    if GateStatus.FAILED in statuses:
        raise typer.Exit(EXIT_FAILED)
    if GateStatus.NOT_EVALUABLE in statuses:
        raise typer.Exit(EXIT_NOT_EVALUABLE)
