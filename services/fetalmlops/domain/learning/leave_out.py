"""Leaving a scanner out: how a model fares on a scanner that it has not learnt from, and what it would have been with it.

A model is fitted once per group (scanner, operator or site) on the images of all others, and judged by the group's own test
images; one more is fitted on all groups, and judged by the same images. Their difference is what the group's images are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning import metrics
from fetalmlops.domain.learning.intervals import Estimate, Resampler, Sampling, bound_difference
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.splits import straddling_patients
from fetalmlops.domain.learning.summary import group_figures, labelled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.manifest import DecisionRule

    Said = tuple[Predictions, DecisionRule]

__all__ = [
    "GroupLeftOut",
    "LeaveOut",
    "LeaveOutChange",
    "Leaving",
    "change_of",
    "groups_to_leave",
    "leave_out_figures",
    "images_of_group",
    "without",
]

_LEARNT: Final = (Split.TRAIN, Split.VALIDATION)
_USUAL: Final = Sampling()


@dataclass(frozen=True)
class Leaving:
    """Which groups can be left out.

    Parameters
    ----------
    groups
        Names of those that can, in order.
    kept
        Names of the others, and why each cannot.
    unknown
        Labelled images whose group is not known: they could be of any, and so have no part.
    """

    groups: list[str]
    kept: dict[str, str]
    unknown: int


@dataclass(frozen=True)
class GroupLeftOut:
    """How models fare on the test images of one group.

    Parameters
    ----------
    images, patients
        What it rests on.
    left_out, within
        Figures of the model that learnt from all other groups, and of the one that learnt from this one too; none of the
        latter where there is no such model.
    gap
        Accuracy of the second less that of the first, on the same draws of patients.
    """

    images: int
    patients: int
    left_out: dict[str, Estimate]
    within: dict[str, Estimate]
    gap: Estimate | None


@dataclass(frozen=True)
class LeaveOut:
    """All groups, and all their test images together, each judged by the model that has not learnt from its group."""

    groups: dict[str, GroupLeftOut]
    left_out: dict[str, Estimate]
    within: dict[str, Estimate]
    gap: Estimate | None


@dataclass(frozen=True)
class LeaveOutChange:
    """The second recipe less the first, on the same draws of patients.

    Parameters
    ----------
    groups
        Difference of the accuracy on groups that were left out, by group.
    accuracy
        The same on all their images.
    gap
        Difference of the gap on all images; less is better.
    """

    groups: dict[str, Estimate]
    accuracy: Estimate
    gap: Estimate | None


def groups_to_leave(data: DataManifest, by: str) -> Leaving:
    """Return which groups of a data set can be left out.

    Parameters
    ----------
    data
        The data set.
    by
        What images are grouped by: ``scanner``, ``operator`` or ``site``.

    Raises
    ------
    ContractError
        If fewer than two groups have labelled images for training and for test, or a patient has images in two splits.
    """
    known = [image for image in data.images if image.plane is not None]
    if straddling_patients(known):
        msg = "Expected every patient in one split, got some in two; run fetalmlops data check"
        raise ContractError(msg, reason="data-split")
    of = {
        split: {getattr(image, by) for image in known if image.split is split and getattr(image, by)}
        for split in (*_LEARNT, Split.TEST)
    }
    learnt, tested = of[Split.TRAIN] | of[Split.VALIDATION], of[Split.TEST]
    kept = dict.fromkeys(sorted(learnt - tested), "no images for test")
    kept |= dict.fromkeys(sorted(tested - learnt), "no images for training, so that no bundle learns from it anyway")
    for group in sorted(learnt & tested):
        if not all(of[split] - {group} for split in _LEARNT):
            kept[group] = "without it, none are left for training or for validation"
    groups = sorted((learnt & tested) - kept.keys())
    if len(groups) < 2:
        msg = (
            f"Expected two {by}s or more with labelled images for training and for test, got {len(groups)}; add data with "
            f"the {by} of each image, and a split that does not follow it"
        )
        raise ContractError(msg, reason="data-groups")
    unknown = sum(not getattr(image, by) for image in known)
    return Leaving(groups, kept, unknown)


def without(data: DataManifest, by: str, group: str = "") -> DataManifest:
    """Return a data set whose test images, and images of one group or of none that is known, have no part in training.

    They stay in it with an unknown split: so all trainings share one cache of prepared frames.

    Parameters
    ----------
    data
        The data set.
    by
        What images are grouped by.
    group
        The group; empty to leave none out.
    """

    def outside(image: ImageEntry) -> bool:
        return image.split not in _LEARNT or getattr(image, by) in ("", group)

    images = [msgspec.structs.replace(image, split=Split.UNKNOWN) if outside(image) else image for image in data.images]
    return msgspec.structs.replace(data, images=images)


def images_of_group(data: DataManifest, by: str, group: str) -> list[ImageEntry]:
    """Return the labelled test images of a group, in order.

    Raises
    ------
    ContractError
        If there are none.
    """
    images = [image for image in data.of(Split.TEST) if image.plane is not None and getattr(image, by) == group]
    if not images:
        names = sorted({getattr(image, by) for image in data.of(Split.TEST)} - {""})
        msg = f"Expected labelled test images of the {by} {group}, got none; there are {', '.join(names) or 'none'}"
        raise ContractError(msg, reason="data-groups")
    return images


def leave_out_figures(
    left_out: Mapping[str, Said], within: Mapping[str, Said], *, sampling: Sampling = _USUAL
) -> LeaveOut:
    """Return how models fare on groups that they have not learnt from.

    Parameters
    ----------
    left_out
        By group, what the model without it said of the group's test images, and that model's thresholds.
    within
        The same of a model that learnt from the group, on the same images in the same order; empty where there is none.
    sampling
        How intervals are made.

    Raises
    ------
    ContractError
        If the images are not the same.
    """
    _check_same(left_out, within)
    groups = {}
    for name, (predictions, rule) in left_out.items():
        known = labelled(predictions)
        resampler = Resampler(known.patients, sampling)
        groups[name] = GroupLeftOut(
            images=len(known),
            patients=resampler.patients,
            left_out=group_figures(known, rule, sampling),
            within=group_figures(labelled(within[name][0]), within[name][1], sampling) if within else {},
            gap=_difference(_right(within[name]), _right(left_out[name]), resampler) if within else None,
        )
    pooled = _pooled(left_out, sampling)
    gap = _difference(_all_right(within), _all_right(left_out), pooled) if within else None
    return LeaveOut(groups, _overall(left_out, pooled), _overall(within, pooled) if within else {}, gap)


def change_of(
    before: tuple[Mapping[str, Said], Mapping[str, Said]],
    after: tuple[Mapping[str, Said], Mapping[str, Said]],
    *,
    sampling: Sampling = _USUAL,
) -> LeaveOutChange:
    """Return what another recipe changes; `before` and `after` are as for `leave_out_figures`, of the same groups.

    Raises
    ------
    ContractError
        If the images are not the same.
    """
    (left, within), (other_left, other_within) = before, after
    _check_same(left, other_left)
    groups = {
        name: _difference(_right(other_left[name]), _right(left[name]), _pooled({name: left[name]}, sampling))
        for name in left
    }
    pooled = _pooled(left, sampling)
    accuracy = _difference(_all_right(other_left), _all_right(left), pooled)
    if not (within and other_within):
        return LeaveOutChange(groups, accuracy, None)
    gaps = [_all_right(with_it) - _all_right(less) for less, with_it in ((left, within), (other_left, other_within))]
    return LeaveOutChange(groups, accuracy, _difference(gaps[1], gaps[0], pooled))


def _check_same(left_out: Mapping[str, Said], within: Mapping[str, Said]) -> None:
    names = [
        [(name, image.sha256, image.frame) for name, (predictions, _) in said.items() for image in predictions.images]
        for said in (left_out, within)
    ]
    if within and names[0] != names[1]:
        msg = "Expected both models on the same images of the same groups, got others; run them on the same data"
        raise ContractError(msg, reason="predictions")


def _right(said: Said) -> NDArray[np.float64]:
    known = labelled(said[0])
    return np.asarray(known.probabilities.argmax(axis=1) == known.labels, np.float64)


def _all_right(said: Mapping[str, Said]) -> NDArray[np.float64]:
    return np.concatenate([_right(each) for each in said.values()])


def _pooled(said: Mapping[str, Said], sampling: Sampling) -> Resampler:
    return Resampler(np.concatenate([labelled(predictions).patients for predictions, _ in said.values()]), sampling)


def _overall(said: Mapping[str, Said], pooled: Resampler) -> dict[str, Estimate]:
    known: Sequence[Predictions] = [labelled(predictions) for predictions, _ in said.values()]
    confusion = np.concatenate(
        [metrics.one_hot_confusion(each.labels, each.probabilities.argmax(axis=1), len(PLANES)) for each in known]
    )
    return {
        "accuracy": pooled.ratio(_all_right(said) == 1),
        "macro_f1": pooled.estimate(metrics.macro_f1(pooled.sums(confusion)), share=True),
    }


def _difference(one: NDArray[np.float64], other: NDArray[np.float64], resampler: Resampler) -> Estimate:
    return bound_difference(resampler.ratio(one - other), resampler.sampling.level)
