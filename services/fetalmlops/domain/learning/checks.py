"""What is wrong with a data set, and what is only worth knowing: leakage, duplicates, labels, counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.splits import straddling_patients

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fetalmlops.domain.learning.duplicates import Pair
    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry

__all__ = ["Finding", "Weight", "check_counts", "check_labels", "check_pairs", "check_patients", "check_repeats"]


class Weight(StrEnum):
    """Whether a finding refuses the data set, or is only noted."""

    REFUSED = "refused"
    NOTED = "noted"


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Parameters
    ----------
    weight
        Whether it refuses the data set.
    kind
        Which check found it, such as ``patient-leakage``.
    text
        What was expected and what came.
    paths
        The images, or pairs of them.
    """

    weight: Weight
    kind: str
    text: str
    paths: Sequence[str] = ()


_JUDGED: Final = (Split.TRAIN, Split.TEST)


def check_patients(manifest: DataManifest) -> list[Finding]:
    """Refuse patients with images in more than one split."""
    straddling = straddling_patients(manifest.images)
    if not straddling:
        return []
    text = f"Expected no patient with images in two splits, got {len(straddling)} patients; mend the splits"
    paths = [image.path for image in manifest.images if image.patient in straddling]
    return [Finding(Weight.REFUSED, "patient-leakage", text, paths)]


def check_repeats(manifest: DataManifest) -> list[Finding]:
    """Refuse a frame that is listed twice."""
    counts = Counter((image.path, image.frame) for image in manifest.images)
    paths = [path for (path, _), count in counts.items() if count > 1]
    if not paths:
        return []
    text = f"Expected each image once, got {len(paths)} that are listed again; add the data again"
    return [Finding(Weight.REFUSED, "repeated", text, paths)]


def check_labels(manifest: DataManifest) -> list[Finding]:
    """Refuse labels that this release does not know, and sub-planes of other planes; note images without a label."""
    images = manifest.images
    unknown = [image.path for image in images if "unknown" in (image.plane, image.brain_plane, image.split)]
    wrong = [image.path for image in images if image.brain_plane is not None and image.plane is not Plane.BRAIN]
    without = [image.path for image in images if image.plane is None]
    findings = []
    if unknown:
        text = f"Expected planes and splits that this release knows, got others in {len(unknown)} images"
        findings.append(Finding(Weight.REFUSED, "unknown-label", text, unknown))
    if wrong:
        text = f"Expected sub-planes of brains only, got them in {len(wrong)} images of other planes"
        findings.append(Finding(Weight.REFUSED, "unknown-label", text, wrong))
    if without:
        text = f"{len(without)} images have no label: they can be neither learned from nor judged by"
        findings.append(Finding(Weight.NOTED, "no-label", text, without))
    return findings


def check_pairs(images: Sequence[ImageEntry], pairs: Iterable[Pair], kind: str) -> list[Finding]:
    """Refuse duplicates across splits, and under two labels or two patients within one; note those within a patient.

    Parameters
    ----------
    images
        The images.
    pairs
        Pairs that show the same.
    kind
        ``exact-duplicate`` or ``near-duplicate``.
    """
    groups: dict[str, list[str]] = {}
    for first, second, _ in pairs:
        a, b = images[first], images[second]
        groups.setdefault(_relation(a, b, kind), []).append(f"{_place(a)} = {_place(b)}")
    return [
        Finding(_weigh(relation), f"{kind}-{relation}", _TEXTS[relation].format(len(paths)), paths)
        for relation, paths in sorted(groups.items())
    ]


_TEXTS = {
    "across-splits": "Expected no image in two splits, got {} pairs that show the same; remove one of each",
    "labels-differ": "Expected one label of one image, got {} pairs of the same pixels under two; mend the label",
    "across-patients": "{} pairs within a split show the same and stand under two patients",
    "within-patient": "{} pairs of a patient show the same",
}


def _relation(first: ImageEntry, second: ImageEntry, kind: str) -> str:
    if first.split is not second.split:
        return "across-splits"
    if kind == "exact-duplicate" and (first.plane, first.brain_plane) != (second.plane, second.brain_plane):
        return "labels-differ"
    return "within-patient" if first.patient == second.patient else "across-patients"


def _weigh(relation: str) -> Weight:
    return Weight.REFUSED if relation in ("across-splits", "labels-differ") else Weight.NOTED


def _place(image: ImageEntry) -> str:
    return f"{image.path}#{image.frame}" if image.frame else image.path


def check_counts(manifest: DataManifest, use: IntendedUse) -> list[Finding]:
    """Note planes of which training or test, where there is one, has fewer images or patients than the intended use asks."""
    floors = use.accuracy
    findings = []
    for split in _JUDGED:
        images = manifest.of(split)
        if not images:
            continue
        counts = Counter(image.plane for image in images)
        patients = Counter(plane for plane, _ in {(image.plane, image.patient) for image in images})
        short = [
            f"{plane} {counts[Plane(plane)]} of {patients[Plane(plane)]}"
            for plane in use.purpose.planes
            if counts[Plane(plane)] < floors.least_images_per_plane
            or patients[Plane(plane)] < floors.least_patients_per_plane
        ]
        if short:
            text = (
                f"The intended use asks for {floors.least_images_per_plane} images of {floors.least_patients_per_plane} "
                f"patients of each plane; {split} has fewer: {', '.join(short)}"
            )
            findings.append(Finding(Weight.NOTED, f"few-in-{split}", text))
    return findings
