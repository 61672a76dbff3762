"""What a survey shows: a page that stands alone, and a table for the terminal."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.markup import escape
from rich.table import Table

from fetalmlops import __version__
from fetalmlops.cli.deid.survey_child import Looks
from fetalmlops.domain.deid.pixels.preview import WIDEST
from fetalmlops.domain.deid.survey.tally import CLEAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["survey_page", "survey_table"]


def survey_page(report: dict[str, Any], looks: Mapping[int, Looks]) -> str:
    """Return the page of a survey: one HTML file that asks for nothing else.

    Parameters
    ----------
    report
        What the survey says, as `fetalmlops.domain.deid.survey.report.survey_report`.
    looks
        What was seen of the samples, by scanner number.
    """
    environment = Environment(
        loader=PackageLoader("fetalmlops.cli.deid"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(uri=_data_uri, percent=_percent, number=_number, rectangle=_rectangle)
    return environment.get_template("survey.html.j2").render(
        report=report,
        looks={entry["number"]: looks.get(entry["number"], Looks()) for entry in report["scanners"]},
        today=datetime.now(UTC).date().isoformat(),
        version=__version__,
        widest=WIDEST,
    )


def survey_table(report: dict[str, Any], console: Console) -> None:
    """Print a survey's summary."""
    table = Table("no.", "scanner", "files", "regions", "would be refused", "device profile", show_lines=True)
    for entry in report["scanners"]:
        table.add_row(
            str(entry["number"]),
            escape(f"{scanner_name(entry)}\n{image_name(entry)}"),
            f"{_number(entry['files'])}\nframes: {_number(entry['frames'])}",
            _lines(entry["regions"]),
            _refused(entry),
            "proposed" if entry["proposal"] else "none" if entry["no_proposal"] else "not needed",
        )
    console.print(table)
    files = report["files"]
    console.print(
        f"{_number(files['looked_at'])} of {_number(files['found'])} files looked at: {_number(files['dicom'])} DICOM, "
        f"{_number(files['not_dicom'])} not DICOM, {_number(files['unopened'])} that cannot be opened"
    )
    unread = sum(report["unread_headers"].values())
    if unread:
        console.print(f"{_number(unread)} DICOM files have a header that cannot be read: their scanner is not known")
    console.print(
        f"{_number(files['clean'])} would be clean, {_number(files['refused'])} would go to quarantine "
        f"({_percent(files['refused_share'])} of the DICOM files)"
    )
    if files["interrupted"]:
        console.print("Stopped before the end: the figures are of what was looked at until then")


def scanner_name(entry: Mapping[str, Any]) -> str:
    """Return what a scanner is called: manufacturer, model and software."""
    words = [entry["manufacturer"], entry["model"], entry["software"]]
    return ", ".join(word for word in words if word) or "not stated"


def image_name(entry: Mapping[str, Any]) -> str:
    """Return size and colours of a scanner's images."""
    if not entry["rows"] or not entry["columns"]:
        return "no image"
    return f"{entry['columns']} x {entry['rows']} {entry['photometric'] or 'other colours'}"


def _refused(entry: Mapping[str, Any]) -> str:
    reasons = {reason: count for reason, count in entry["outcomes"].items() if reason != CLEAN}
    return f"{_percent(entry['refused_share'])}\n{_lines(reasons)}" if reasons else "none"


def _lines(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{_number(count)} {name}" for name, count in counts.items())


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _percent(share: float) -> str:
    """Return a share in words that claim neither nothing nor all where it is near either."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{share:.1%}".replace("%", " %").replace(".0 %", " %")


def _number(value: int) -> str:
    return f"{value:,}"


def _rectangle(bounds: tuple[int, int, int, int]) -> str:
    x0, y0, x1, y1 = bounds
    return f"columns {x0} to {x1 - 1}, rows {y0} to {y1 - 1}"
