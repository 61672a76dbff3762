"""The pages of reports: one HTML file each that stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fetalmlops.cli.evaluation import plots
from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.learning.behaviour import BLANK
from fetalmlops.domain.learning.gates import GateStatus

if TYPE_CHECKING:
    from fetalmlops.cli.evaluation.reports import ComparisonReport, EvaluationReport, LeaveOutReport
    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.learning.intervals import Estimate

__all__ = ["comparison_page", "evaluation_page", "interval_text", "leave_out_page"]

_WORDS: Final = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "expected_calibration_error": "Expected calibration error",
    "classwise_calibration_error": "Class-wise calibration error",
    "brier": "Brier score",
    "negative_log_likelihood": "Negative log-likelihood",
    "accepted": "Share accepted",
    "accuracy_of_accepted": "Accuracy of the accepted",
    "out_of_scope": "Share over the out-of-scope limit",
    "aurc": "Area under the risk-coverage curve",
    "brain_accuracy": "Accuracy of brain sub-planes",
    "brain_macro_f1": "Macro F1 of brain sub-planes",
    "insertion": "Insertion area",
    "deletion": "Deletion area",
    "faithfulness": "Faithfulness (insertion less deletion)",
    "faithfulness_of_chance": "The same of a random map",
    "energy_in_sector": "Positive energy inside the sector",
    "sector_share": "The sector's share of the input",
    "repeatability": "Similarity under noise",
    "similarity_random_head": "Similarity after shuffling the head's weights",
    "similarity_random_weights": "Similarity after shuffling all weights",
}


def evaluation_page(report: EvaluationReport, use: IntendedUse) -> str:
    """Return the page of an evaluation; the intended use gives the floors in its plots."""
    summary = report.summary
    floors = use.accuracy.plane_recall
    images = {
        "confusion": plots.confusion_plot(summary.confusion, [str(plane) for plane in PLANES]),
        "recall": plots.intervals_plot({name: each.recall for name, each in summary.planes.items()}, "recall", floors),
        "reliability": plots.reliability_plot(summary.reliability),
        "risk": plots.risk_plot(summary.coverage, summary.risk, use.selective.risk),
    }
    if summary.brain_confusion:
        images["brain"] = plots.confusion_plot(summary.brain_confusion, [str(plane) for plane in BRAIN_PLANES])
    groups = {f"{by} {name}": each["accuracy"] for by, found in summary.groups.items() for name, each in found.items()}
    if groups:
        images["groups"] = plots.intervals_plot(groups, "accuracy")
    counts = {status.value: sum(gate.status is status for gate in report.gates) for status in GateStatus}
    # What failed stands first, what passed last.
    order = (GateStatus.FAILED, GateStatus.NOT_EVALUABLE, GateStatus.PASSED)
    gates = sorted(report.gates, key=lambda gate: order.index(gate.status))
    return _render("evaluation.html.j2", report=report, plots=images, counts=counts, gates=gates, blank=BLANK)


def comparison_page(report: ComparisonReport) -> str:
    """Return the page of a comparison."""
    images = {"pareto": plots.pareto_plot(report.pareto)}
    for index, each in enumerate(report.comparisons):
        floors = dict.fromkeys(each.planes, -each.margin)
        images[f"planes{index}"] = plots.intervals_plot(each.planes, "difference of recall", floors)
    return _render("comparison.html.j2", report=report, plots=images)


def leave_out_page(report: LeaveOutReport) -> str:
    """Return the page of scanners, operators or sites that were left out."""
    images = [plots.gaps_plot(facts.figures) for facts in report.sets]
    return _render("leave_out.html.j2", report=report, plots=images)


def interval_text(estimate: Estimate | None) -> str:
    """Return a figure with its interval in short, as in ``0.912 (0.871 to 0.944)``.

    Examples
    --------
    >>> from fetalmlops.domain.learning.intervals import Estimate
    >>> interval_text(Estimate(0.5, 0.25, 0.75, 4, 4)), interval_text(None)
    ('0.500 (0.250 to 0.750)', 'not available')
    """
    if estimate is None or estimate.value is None:
        return "not available"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f} (no interval)"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("fetalmlops.cli.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(interval=_interval, words=lambda name: _WORDS.get(name, name), number=lambda n: f"{n:,}")
    return environment.get_template(template).render(**values)


def _interval(estimate: Estimate | None) -> Markup:
    figure, _, bounds = interval_text(estimate).partition(" (")
    if not bounds:
        return Markup("<span class='soft'>{}</span>").format(figure)
    return Markup("{} <span class='soft'>({}</span>").format(figure, bounds)
