"""Reports of evaluations and comparisons as values: what stands in the JSON, and what the pages are made from."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.learning.provenance import recorded
from fetalmlops.domain.learning.summary import decisions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fetalmlops.cli.evaluation.running import BundleFacts, Cost, DataFacts, Run, SeenFacts
    from fetalmlops.domain.learning.comparison import Comparison, Placed
    from fetalmlops.domain.learning.gates import GateResult
    from fetalmlops.domain.learning.leave_out import LeaveOut, LeaveOutChange
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.learning.summary import Summary
    from fetalmlops.domain.models.manifest import DecisionRule
    from fetalmlops.platform.learning.ledger import Use
    from fetalmlops.platform.learning.trials import Trials

__all__ = [
    "FORMAT",
    "ComparisonReport",
    "EvaluationReport",
    "LeaveOutReport",
    "LeftOutFacts",
    "UseFacts",
    "VariantFacts",
    "encode_report",
    "predictions_table",
]

FORMAT: Final = 1
"""Version of the reports' layout."""


@dataclass(frozen=True)
class UseFacts:
    """Which intended use the gates read: its version, digest, and whether a site has confirmed it."""

    version: str
    digest: str
    status: str


@dataclass(frozen=True)
class EvaluationReport:
    """An evaluation of one bundle."""

    format: int
    release: str
    made: str
    bundle: BundleFacts
    data: DataFacts
    intended_use: UseFacts
    level: float
    replicates: int
    seed: int
    summary: Summary
    cost: Cost
    trials: Trials | None
    gates: list[GateResult]
    uses: list[Use]
    seen: SeenFacts


@dataclass(frozen=True)
class VariantFacts:
    """A bundle in one of its precisions, run in that precision on one thread.

    Parameters
    ----------
    bundle
        Index of the bundle.
    precision
        The precision.
    serves
        Whether it is the one that serves unless settings say otherwise.
    agreement
        Share of the images on which it names the plane that the serving one names.
    cost
        What it costs.
    """

    bundle: int
    precision: str
    serves: bool
    agreement: float
    cost: Cost


@dataclass(frozen=True)
class ComparisonReport:
    """A comparison: each further bundle with the first, and all in all their precisions by accuracy, time and energy.

    `variants` and `pareto` are in the same order; `unmeasured` says of further precisions why they were not run.
    `energy_growth` is that of each further bundle, as a share of the first one's; `rule` says in words how one was chosen, and
    `margin` by how much a recall, and its accuracy, may fall.
    """

    format: int
    release: str
    made: str
    bundles: list[BundleFacts]
    data: DataFacts
    level: float
    replicates: int
    seed: int
    variants: list[VariantFacts]
    unmeasured: dict[str, str]
    comparisons: list[Comparison]
    energy_growth: list[float]
    energy_growth_limit: float
    pareto: list[Placed]
    rule: str
    margin: float
    uses: list[Use]
    seen: list[SeenFacts]


@dataclass(frozen=True)
class LeftOutFacts:
    """What came of one recipe, or of bundles at hand.

    Parameters
    ----------
    name
        The recipe's name.
    bundles
        By group, the bundle that has not learnt from it.
    within
        The bundle that has learnt from all groups; None where there is none.
    seen
        By group, whether its test images had a part in making the bundle without it.
    learnt
        By group, how many images that bundle was made from; None where it does not record them all.
    kwh
        Energy of all trainings as the bundles tell, modelled; None where one does not.
    figures
        The figures.
    """

    name: str
    bundles: dict[str, BundleFacts]
    within: BundleFacts | None
    seen: dict[str, SeenFacts]
    learnt: dict[str, int | None]
    kwh: float | None
    figures: LeaveOut

    @classmethod
    def of(cls, name: str, left: Mapping[str, Run], with_all: Run | None, figures: LeaveOut) -> LeftOutFacts:
        """Return the facts of runs without each group, and of the run of the bundle with all."""
        manifests = [run.evaluator.bundle.manifest for run in (*left.values(), *filter(None, (with_all,)))]
        taken = [manifest.provenance.energy.kwh for manifest in manifests]
        known = [each for each in taken if each is not None]
        return cls(
            name=name,
            bundles={group: run.facts for group, run in left.items()},
            within=with_all.facts if with_all else None,
            seen={group: run.seen for group, run in left.items()},
            learnt={
                group: len(record.images) if record.complete else None
                for group, record in ((group, recorded(run.evaluator.bundle)) for group, run in left.items())
            },
            kwh=sum(known) if len(known) == len(taken) else None,
            figures=figures,
        )


@dataclass(frozen=True)
class LeaveOutReport:
    """Scanners, operators or sites, each judged by a bundle that has not learnt from it.

    `kept` says of the groups that were not left out why not, `unknown` how many labelled images are of a group that is not
    known, and had no part; `change` is the second recipe less the first.
    """

    format: int
    release: str
    made: str
    data: DataFacts
    by: str
    level: float
    replicates: int
    seed: int
    kept: dict[str, str]
    unknown: int
    sets: list[LeftOutFacts]
    change: LeaveOutChange | None
    uses: list[Use]


def encode_report(report: EvaluationReport | ComparisonReport | LeaveOutReport) -> bytes:
    """Return a report as JSON, indented for readers."""
    return msgspec.json.format(msgspec.json.encode(_plain(report)), indent=1) + b"\n"


def predictions_table(predictions: Predictions, rule: DecisionRule) -> str:
    """Return what was said of each image as CSV: label, plane, decision, score and calibrated probabilities."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    brain = predictions.brain_probabilities
    names = [f"brain_{plane.value}" for plane in BRAIN_PLANES] if brain.shape[1] else []
    writer.writerow(
        ["path", "frame", "patient", "scanner", "label", "brain_label", "plane", "decision", "ood_score"]
        + [plane.value for plane in PLANES]
        + names
    )
    rows = zip(
        predictions.images, predictions.probabilities, brain, decisions(predictions, rule), predictions.ood, strict=True
    )
    for image, planes, brains, decision, ood in rows:
        writer.writerow(
            [image.path, image.frame, image.patient, image.scanner, image.plane or "", image.brain_plane or ""]
            + [PLANES[int(planes.argmax())].value, decision, f"{ood:.4f}"]
            + [f"{value:.6f}" for value in (*planes, *brains)]
        )
    return text.getvalue()


def _plain(report: EvaluationReport | ComparisonReport | LeaveOutReport) -> Any:
    return msgspec.to_builtins(report, str_keys=True)
