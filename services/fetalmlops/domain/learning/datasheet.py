"""The datasheet of a data set (Gebru et al., Datasheets for Datasets, CACM 64(12), 2021): its figures, and what is known.

The questions keep their order: motivation, composition, collection, preprocessing, uses, distribution, maintenance. A
question that nobody has answered is answered so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.duplicates import exact_pairs
from fetalmlops.domain.learning.manifest import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry

__all__ = ["QUESTIONS", "UNKNOWN", "Answer", "data_facts", "make_datasheet", "parse_answers"]

UNKNOWN: Final = "Not known."
"""What is answered where nobody has said anything."""

QUESTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "Motivation": {
            "purpose": "For what purpose was it created?",
            "creators": "Who created it?",
            "funding": "Who paid for it?",
        },
        "Composition": {
            "instances": "What does an instance stand for?",
            "number": "How many are there?",
            "labels": "How were labels given?",
            "missing": "What is missing?",
            "splits": "Which splits are there?",
            "errors": "Which errors, noise and redundancies are known?",
            "identifying": "Can a person be identified?",
            "populations": "Which ages, origins and pregnancies does it stand for?",
        },
        "Collection": {
            "acquisition": "How were the images acquired?",
            "period": "Over what time?",
            "ethics": "Was there an ethical review, and did patients consent?",
        },
        "Preprocessing": {
            "preprocessing": "What was done to the images before they were added?",
            "here": "What is done to them here?",
        },
        "Uses": {
            "uses": "For what may it be used?",
            "unfit": "For what should it not be used?",
        },
        "Distribution": {
            "distribution": "How is it distributed?",
            "licence": "Under which licence?",
            "citation": "What is to be cited?",
        },
        "Maintenance": {
            "maintenance": "Who maintains it, and will it change?",
            "versions": "How is a version told from another?",
        },
    }
)
"""The questions by section; their keys are those of a file of answers."""

_QUANTILES = (0, 0.25, 0.5, 0.75, 1)
Origin = Literal["computed", "published", "site", "nobody"]


@dataclass(frozen=True)
class Answer:
    """A question with its answer, and who says so: this program, the data's publication, the site, or nobody."""

    key: str
    question: str
    text: str
    origin: Origin


def parse_answers(data: bytes) -> dict[str, str]:
    """Read a site's answers: TOML of a question's key and a text.

    Raises
    ------
    ContractError
        If it is not TOML, or has a key that is no question.
    """
    try:
        answers = msgspec.toml.decode(data, type=dict[str, str])
    except (msgspec.MsgspecError, ValueError) as error:
        msg = f"Expected answers as TOML, each a key and a text, got another file: {error}; mend it"
        raise ContractError(msg, reason="datasheet") from None
    known = [key for questions in QUESTIONS.values() for key in questions]
    if not set(answers) <= set(known):
        msg = f"Expected answers to questions among {', '.join(known)}, got another key; rename it"
        raise ContractError(msg, reason="datasheet")
    return answers


def make_datasheet(
    manifest: DataManifest, digest: str, published: Mapping[str, str], site: Mapping[str, str]
) -> dict[str, list[Answer]]:
    """Answer every question: the site's word counts most, then what is computed, then the publication's.

    Parameters
    ----------
    manifest
        The data set.
    digest
        Its digest.
    published
        Answers of the publication.
    site
        Answers of the site.
    """
    computed = _computed(manifest, digest)
    computed["errors"] = f"{_duplicates(manifest)} {published.get('errors', '')}".strip()

    def answer(key: str, question: str) -> Answer:
        sources: tuple[tuple[Origin, Mapping[str, str]], ...] = (
            ("site", site),
            ("computed", computed),
            ("published", published),
        )
        for origin, answers in sources:
            if answers.get(key):
                return Answer(key, question, answers[key], origin)
        return Answer(key, question, UNKNOWN, "nobody")

    return {section: [answer(*item) for item in questions.items()] for section, questions in QUESTIONS.items()}


def data_facts(manifest: DataManifest) -> dict[str, Any]:
    """Return the figures of a data set: counts of images and patients by split, of each plane, scanner, operator and site."""
    images = manifest.images
    per_patient = np.array(list(Counter(image.patient for image in images).values()))
    sizes = Counter((image.columns, image.rows) for image in images)
    return {
        "images": len(images),
        "patients": len(per_patient),
        "splits": _table(images, lambda image: image.split),
        "planes": _table(images, lambda image: image.plane or "no label"),
        "brain_planes": _table([image for image in images if image.brain_plane], lambda image: str(image.brain_plane)),
        "scanners": _table(images, lambda image: image.scanner or "not known"),
        "operators": _table(images, lambda image: image.operator or "not known"),
        "sites": _table(images, lambda image: image.site or "not known"),
        "images_per_patient": {
            "quantiles": dict(zip(map(str, _QUANTILES), np.quantile(per_patient, _QUANTILES).tolist(), strict=True)),
            "counts": {str(size): count for size, count in sorted(Counter(per_patient.tolist()).items())},
        },
        "sizes": [{"columns": c, "rows": r, "images": count} for (c, r), count in sizes.most_common()],
        "exact_duplicates": len(exact_pairs(images)),
        "excluded": dict(manifest.excluded),
    }


def _table(images: Iterable[ImageEntry], group: Callable[[ImageEntry], str]) -> dict[str, dict[str, dict[str, int]]]:
    """Count images and patients by group and split, the largest group first."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    patients: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for image in images:
        counts[str(group(image))][image.split] += 1
        patients[str(group(image)), image.split].add(image.patient)
    return {
        name: {
            str(split): {"images": found[split], "patients": len(patients[name, split])}
            for split in Split
            if found[split]
        }
        for name, found in sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    }


def _computed(manifest: DataManifest, digest: str) -> dict[str, str]:
    facts = data_facts(manifest)
    unlabelled = sum(image.plane is None for image in manifest.images)
    without = [
        f"{name} of {count:,} images"
        for name, count in (
            ("the label", unlabelled),
            *((word, sum(not getattr(i, word) for i in manifest.images)) for word in ("scanner", "operator", "site")),
        )
        if count
    ]
    left_out = [f"{count:,} images left out: {reason}" for reason, count in manifest.excluded.items()]
    return {
        "number": f"{facts['images']:,} images of {facts['patients']:,} patients.",
        "missing": f"{'; '.join([*without, *left_out])}." if without or left_out else "Nothing that a manifest holds.",
        "here": "They are read as they are. Normalisation and preparation are those of serving, and belong to a model.",
        "licence": manifest.licence,
        "citation": manifest.citation,
        "versions": f"By the digest of its manifest, which holds that of every image: {digest}.",
    }


def _duplicates(manifest: DataManifest) -> str:
    count = len(exact_pairs(manifest.images))
    return (
        f"Images with the same pixels as an earlier one: {count:,}." if count else "No two images have the same pixels."
    )
