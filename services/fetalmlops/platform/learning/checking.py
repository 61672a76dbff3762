"""All checks of a data set, those that open its images too."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.learning.checks import (
    Finding,
    Weight,
    check_counts,
    check_labels,
    check_pairs,
    check_patients,
    check_repeats,
)
from fetalmlops.domain.learning.duplicates import SIMILAR, candidate_pairs, detail, exact_pairs, similarity
from fetalmlops.platform.dicom.decoding import configure
from fetalmlops.platform.learning.datasets import as_grey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fetalmlops.domain.learning.duplicates import Pair
    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.platform.learning.datasets import Dataset

__all__ = ["check_dataset"]


def check_dataset(dataset: Dataset, use: IntendedUse, *, progress: Callable[[], None] = lambda: None) -> list[Finding]:
    """Check a data set: every file is read once, for its digest and that it can be decoded.

    Parameters
    ----------
    dataset
        The data set.
    use
        What its counts are held against.
    progress
        Called after each image.

    Returns
    -------
    list[Finding]
        What was found; those that refuse the data set first.
    """
    configure()
    manifest = dataset.manifest
    images = manifest.images
    findings = [
        *_check_files(dataset, progress),
        *check_patients(manifest),
        *check_repeats(manifest),
        *check_labels(manifest),
        *check_pairs(images, exact_pairs(images), "exact-duplicate"),
        *check_pairs(images, _proven(dataset, candidate_pairs(images)), "near-duplicate"),
        *check_counts(manifest, use),
    ]
    return sorted(findings, key=lambda finding: finding.weight is Weight.NOTED)


def _check_files(dataset: Dataset, progress: Callable[[], None]) -> list[Finding]:
    images = dataset.manifest.images
    broken: dict[str, list[str]] = {}

    def read(index: int) -> str:
        try:
            dataset.read_checked(images[index])
        except PermanentError as error:
            return error.reason
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for image, reason in zip(images, pool.map(read, range(len(images))), strict=True):
            if reason:
                broken.setdefault(reason, []).append(image.path)
            progress()
    return [
        Finding(Weight.REFUSED, _KINDS[reason][0], _KINDS[reason][1].format(len(p)), p) for reason, p in broken.items()
    ]


_KINDS = {
    "data-changed": (
        "changed",
        "Expected images as they were added, got {} changed ones; restore them, or add them again",
    ),
    "data-image": (
        "unreadable",
        "Expected images that can be read, got {} that cannot; restore them, or add them again",
    ),
}


def _proven(dataset: Dataset, pairs: Iterable[Pair]) -> list[Pair]:
    """Keep the candidates whose pixels are alike: equal hashes alone also come from equal sectors."""
    details = {}
    proven = []
    for pair in pairs:
        try:
            for index in pair[:2]:
                if index not in details:
                    details[index] = detail(as_grey(dataset.read(dataset.manifest.images[index])))
        except PermanentError:
            continue  # told among the files that cannot be read
        if similarity(details[pair.first], details[pair.second]) >= SIMILAR:
            proven.append(pair)
    return proven
