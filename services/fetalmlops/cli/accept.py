"""``fetalmlops accept``: a site's acceptance test, with a report to sign."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fetalmlops.cli.classify import BundleOption  # noqa: TC001 - Typer reads the annotations
from fetalmlops.cli.lazy import EXIT_FAILURE
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.acceptance import Check, Outcome, judge, overall, sample_sizes
from fetalmlops.domain.learning.provenance import seen_by
from fetalmlops.domain.learning.summary import summarise_predictions
from fetalmlops.platform.inference.bundles import open_bundle
from fetalmlops.platform.learning.acceptance_page import acceptance_page
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.fitting import labelled_images, observe
from fetalmlops.platform.learning.intended_use import open_intended_use
from fetalmlops.platform.settings import load_settings

__all__ = ["accept"]

_STYLES: Final = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.NOT_JUDGED: "yellow"}


def accept(
    *,
    bundle: BundleOption,
    labels: Annotated[str, typer.Option("--labels", metavar="D", help="Data set of the site's labelled images.")],
    report: Annotated[Path | None, typer.Option(help="HTML to write, to print and to sign.")] = None,
    intended_use: Annotated[
        Path | None, typer.Option(help="Intended use, TOML; default: the state folder's, or the packaged proposal.")
    ] = None,
) -> None:
    """Test whether a bundle does at a site what it is for.

    Images that the bundle was made from or adapted to are refused, as far as it tells. The exit code is 0 only if every demand
    of the intended use is met by the bound of its interval; a demand that cannot be judged, such as for too few patients, is
    not met.
    """
    settings = load_settings()
    opened, data = open_bundle(settings.home, bundle), open_dataset(settings, labels)
    seen = seen_by(opened, data.manifest, data.digest, labelled_images(data))
    if seen.count:
        msg = f"Expected images that had no part in making the bundle, got others: {seen}; label others, or leave those out"
        raise ContractError(msg, reason="data-seen")
    use, use_digest = open_intended_use(settings, intended_use)
    observed = observe(opened, data, purpose="acceptance test")
    summary = summarise_predictions(observed.predictions, opened.manifest.decision, target_risk=use.selective.risk)
    sizes, checks = sample_sizes(summary, use), judge(summary, use)
    outcome = overall(checks)
    if report is not None:
        page = acceptance_page(opened, data, seen, use, use_digest, summary, sizes, checks, outcome)
        report.write_text(page, "utf-8")
    console = Console()
    if not seen.complete:
        console.print(f"[yellow]note:[/] {seen}", highlight=False)
    for size in sizes:
        if not size.enough:
            console.print(f"{size.what}: {size.needed} patients are needed, {size.found} found", highlight=False)
    console.print(_table(checks))
    console.print(Text(f"acceptance test: {outcome}", style=_STYLES[outcome]))
    if outcome is not Outcome.PASSED:
        raise typer.Exit(EXIT_FAILURE)


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("figure", "wanted", "found", "interval", "outcome"):
        table.add_column(column)
    for check in checks:
        each = check.estimate
        found = "" if each is None or each.value is None else f"{each.value:.3f}"
        interval = "" if each is None or each.low is None else f"{each.low:.3f} to {each.high:.3f}"
        why = f": {check.why}" if check.why else ""
        table.add_row(
            check.name, check.wanted, found, interval, Text(f"{check.outcome}{why}", style=_STYLES[check.outcome])
        )
    return table
