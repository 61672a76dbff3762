"""Splits by patient: a part for validation, and proof that no patient has images in two parts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.manifest import Split

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.layouts.listing import Listed
    from fetalmlops.domain.learning.manifest import ImageEntry

__all__ = ["assign_splits", "draw_patients", "straddling_patients"]


def straddling_patients(images: Iterable[Listed | ImageEntry]) -> dict[str, list[Split]]:
    """Return the patients with images in more than one split, and which."""
    found: defaultdict[str, set[Split]] = defaultdict(set)
    for image in images:
        found[image.patient].add(image.split)
    return {patient: sorted(splits) for patient, splits in found.items() if len(splits) > 1}


def assign_splits(images: Sequence[Listed], *, share: float, seed: int, held_out: bool = False) -> list[Listed]:
    """Give every image a split: what the layout says, else training; then carve validation from training by patient.

    Parameters
    ----------
    images
        The images.
    share
        Share of the training images that is held back for validation, 0 for none; where the layout itself has a
        validation split, nothing more is.
    seed
        Seed.
    held_out
        Whether images without a split are for test, all of them.

    Raises
    ------
    ContractError
        If the share is out of range, or too few patients are there to carve from.
    """
    if not 0 <= share < 1:
        msg = f"Expected a share for validation from 0 to below 1, got {share}; choose one such as 0.15"
        raise ContractError(msg, reason="data-split")
    default = Split.TEST if held_out else Split.TRAIN
    known = [replace(image, split=default) if image.split is Split.UNKNOWN else image for image in images]
    training = [image for image in known if image.split is Split.TRAIN]
    if not share or not training or any(image.split is Split.VALIDATION for image in known):
        return known
    chosen = draw_patients(_kinds_by_patient(training), share=share, seed=seed)
    return [
        replace(image, split=Split.VALIDATION) if image.split is Split.TRAIN and image.patient in chosen else image
        for image in known
    ]


def draw_patients(kinds: Mapping[str, Sequence[Hashable]], *, share: float, seed: int) -> set[str]:
    """Draw patients who together hold a share of every kind of image, as nearly as whole patients allow.

    Parameters
    ----------
    kinds
        The kind of each image of each patient, such as its plane.
    share
        Share of the images of each kind to draw.
    seed
        Seed: equal arguments give equal patients.

    Raises
    ------
    ContractError
        If there are fewer than two patients.

    Examples
    --------
    >>> drawn = draw_patients({str(number): ["brain", "femur"] for number in range(10)}, share=0.3, seed=1)
    >>> len(drawn)
    3
    """
    if len(kinds) < 2:
        msg = f"Expected two patients or more to hold some back, got {len(kinds)}; add data, or hold none back"
        raise ContractError(msg, reason="data-split")
    patients = sorted(kinds)
    counts = _count(patients, kinds)
    total = counts.sum(0)
    order = np.random.default_rng(seed).permutation(len(patients))
    order = order[
        np.argsort(-counts[order].sum(1), kind="stable")
    ]  # the largest first, so that the small ones fill gaps
    held = np.zeros(counts.shape[1])
    chosen: set[str] = set()
    for index in order.tolist():
        with_it = held + counts[index]
        if _distance(with_it, share * total, total) < _distance(held, share * total, total):
            held = with_it
            chosen.add(patients[index])
    return chosen or {patients[int(order[-1])]}


def _distance(held: NDArray[np.float64], wanted: NDArray[np.float64], total: NDArray[np.float64]) -> float:
    return float((((held - wanted) ** 2) / total).sum())


def _count(patients: Sequence[str], kinds: Mapping[str, Sequence[Hashable]]) -> NDArray[np.float64]:
    """Count images by patient and kind, [patients, kinds]."""
    columns: dict[Hashable, int] = {}
    for patient in patients:
        for kind in kinds[patient]:
            columns.setdefault(kind, len(columns))
    counts = np.zeros((len(patients), len(columns)))
    for row, patient in enumerate(patients):
        for kind, count in Counter(kinds[patient]).items():
            counts[row, columns[kind]] = count
    return counts


def _kinds_by_patient(images: Iterable[Listed]) -> dict[str, list[Hashable]]:
    found: defaultdict[str, list[Hashable]] = defaultdict(list)
    for image in images:
        found[image.patient].append((image.plane, image.brain_plane))
    return dict(found)
