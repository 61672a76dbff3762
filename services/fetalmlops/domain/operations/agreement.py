"""What a shadow would change: its results beside those of the champion, on the instances that both have judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.learning.intervals import Estimate, Resampler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fetalmlops.domain.contracts.events import InstanceClassified

__all__ = ["Agreement", "agreements"]

Pair = tuple["InstanceClassified", "InstanceClassified"]


@dataclass(frozen=True)
class Agreement:
    """How a shadow's results compare with a champion's.

    Parameters
    ----------
    champion, shadow
        Name, version and beginning of the digest of each bundle.
    instances, patients
        How many instances both have judged, and of how many patients.
    planes, decisions
        Share of the instances with the same plane, and with the same decision; intervals are clustered by patient.
    decision_counts, plane_counts
        How many instances have which decision, or plane, by the champion and by the shadow.
    """

    champion: str
    shadow: str
    instances: int
    patients: int
    planes: Estimate
    decisions: Estimate
    decision_counts: dict[tuple[str, str], int]
    plane_counts: dict[tuple[str, str], int]


def agreements(champions: Iterable[InstanceClassified], shadows: Iterable[InstanceClassified]) -> list[Agreement]:
    """Return the agreement of each pair of bundles that have judged the same contents, the largest count first.

    Parameters
    ----------
    champions, shadows
        The current results of both topics; those without a model, of objects that hold no image, are left out.

    Examples
    --------
    >>> agreements([], [])
    []
    """
    judged = {result.content_id: result for result in champions if result.lineage.bundle_digest}
    pairs: dict[tuple[str, str], list[Pair]] = {}
    for result in shadows:
        champion = judged.get(result.content_id)
        if champion is not None and result.lineage.bundle_digest:
            pairs.setdefault((_name(champion), _name(result)), []).append((champion, result))
    found = [_agreement(*names, both) for names, both in pairs.items()]
    return sorted(found, key=lambda each: -each.instances)


def _agreement(champion: str, shadow: str, pairs: list[Pair]) -> Agreement:
    resampler = Resampler(np.array([one.context.patient for one, _ in pairs]))
    return Agreement(
        champion=champion,
        shadow=shadow,
        instances=len(pairs),
        patients=resampler.patients,
        planes=resampler.ratio(np.array([one.plane == other.plane for one, other in pairs])),
        decisions=resampler.ratio(np.array([one.decision == other.decision for one, other in pairs])),
        decision_counts=dict(Counter((str(one.decision), str(other.decision)) for one, other in pairs)),
        plane_counts=dict(Counter((str(one.plane), str(other.plane)) for one, other in pairs)),
    )


def _name(result: InstanceClassified) -> str:
    lineage = result.lineage
    return f"{lineage.bundle} {lineage.bundle_version} {(lineage.bundle_digest or '')[:12]}"
