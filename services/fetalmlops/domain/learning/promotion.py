"""Gates before a promotion: what a bundle must have shown before it may have a role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import ReleaseStatus, Role
from fetalmlops.domain.learning.gates import GateResult, GateStatus, at_least, at_most
from fetalmlops.domain.learning.intervals import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.models.evidence import Estimate as Told
    from fetalmlops.domain.models.manifest import Manifest

__all__ = ["Gate", "evidence_gates", "kpi_gates", "replacement_gate"]

_TEST: Final = "test"
_FLOORS: Final = (
    "accuracy.macro_f1",
    "accuracy.plane_recall.",
    "accuracy.brain_",
    "calibration.ece",
    "selective.",
    "scope.false_alarms",
)


@dataclass(frozen=True)
class Gate:
    """How a gate ended, and whether a promotion needs it passed.

    Parameters
    ----------
    name, status, why
        What was looked at, how it ended, and what was found.
    needed
        Whether the promotion is refused unless it is passed. One that is not needed must not fail either way.
    """

    name: str
    status: GateStatus
    why: str
    needed: bool = True

    @property
    def holds(self) -> bool:
        """Whether it allows the promotion."""
        return self.status is GateStatus.PASSED or not self.needed


def replacement_gate(manifest: Manifest, role: Role, current: ReleaseStatus | None) -> Gate:
    """Return whether a bundle may replace a champion of a release status; a demonstration never replaces a better one."""
    better = current not in (None, ReleaseStatus.DEMONSTRATION)
    refused = role is Role.CHAMPION and better and manifest.release_status is ReleaseStatus.DEMONSTRATION
    why = f"{manifest.release_status} in place of {current or 'none'}"
    if refused:
        why += ": a demonstration never replaces one that stands for more; promote a candidate"
    return Gate("release-status", GateStatus.FAILED if refused else GateStatus.PASSED, why)


def kpi_gates(manifest: Manifest, role: Role, results: Iterable[GateResult]) -> list[Gate]:
    """Return the floors of the intended use as gates of a promotion.

    A champion that is more than a demonstration needs every floor passed that its outputs can have; floors by scanner, of
    graphics, of foreign images and of energy must not have failed. A shadow is there to be judged and needs none of them; a
    demonstration promises nothing, and has none.
    """
    if manifest.release_status is ReleaseStatus.DEMONSTRATION:
        return []
    judged = role is Role.CHAMPION
    return [
        Gate(each.name, each.status, each.why, judged and (_is_floor(each.name) or each.status is GateStatus.FAILED))
        for each in results
        if manifest.brain_planes or not each.name.startswith("accuracy.brain_")
    ]


def evidence_gates(manifest: Manifest, use: IntendedUse) -> list[GateResult]:
    """Return the floors of the intended use, judged by the figures on test images that stand in a manifest.

    Figures on validation images are no substitute: temperature and thresholds were chosen on them.
    """
    figures = manifest.evidence.figures.get(_TEST)
    if figures is None:
        why = "the manifest has no figures on test images; give those of `fetalmlops evaluate` by --evaluation"
        return [GateResult("accuracy.macro_f1", GateStatus.NOT_EVALUABLE, use.accuracy.macro_f1, None, None, 0, 0, why)]
    return [*_accuracy(use, figures), *_others(use, figures)]


def _is_floor(name: str) -> bool:
    return name.startswith(_FLOORS)


def _accuracy(use: IntendedUse, figures: Mapping[str, Told]) -> Iterator[GateResult]:
    wanted = use.accuracy
    patients, images, level = wanted.least_patients_per_plane, wanted.least_images_per_plane, wanted.interval
    for prefix, macro, floors in (
        ("", wanted.macro_f1, wanted.plane_recall),
        ("brain_", wanted.brain_macro_f1, wanted.brain_recall),
    ):
        group = f"{prefix or 'plane_'}recall"
        recalls = {plane: _estimate(figures.get(f"{prefix}recall: {plane}"), level) for plane in floors}
        mean = None if None in recalls.values() else _estimate(figures.get(f"{prefix}macro_f1"), level)
        yield at_least(f"accuracy.{prefix}macro_f1", macro, mean, patients)
        for plane, floor in floors.items():
            yield at_least(f"accuracy.{group}.{plane}", floor, recalls[plane], patients, images)


def _others(use: IntendedUse, figures: Mapping[str, Told]) -> Iterator[GateResult]:
    patients, level = use.accuracy.least_patients_per_plane, use.accuracy.interval
    found = {name: _estimate(each, level) for name, each in figures.items()}
    yield at_most("calibration.ece", use.calibration.ece, found.get("expected_calibration_error"), patients)
    yield at_most("selective.risk", use.selective.risk, _complement(found.get("accuracy_of_accepted")), patients)
    yield at_least("selective.coverage", use.selective.coverage, found.get("accepted"), patients)
    yield at_most("scope.false_alarms", use.scope.false_alarms, found.get("out_of_scope"), patients)


def _complement(share: Estimate | None) -> Estimate | None:
    if share is None or share.value is None or share.low is None or share.high is None:
        return None
    return Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.images, share.patients)


def _estimate(told: Told | None, level: float) -> Estimate | None:
    """Return a figure of a manifest for a gate; None where its interval is of less confidence than is asked for."""
    if told is None or told.level < level:
        return None
    return Estimate(told.value, told.low, told.high, told.images, told.patients)
