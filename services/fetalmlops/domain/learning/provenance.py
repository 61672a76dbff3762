"""Whether images had a part in making a bundle: what is judged by images that a model learnt from is judged too well.

A bundle names whole data sets by their digests. The same images added under another name, or with another split, have another
digest; so a bundle may also carry a record of its images: the last 64 bits of the digest of each image's pixels, sorted. They
find the same pixels in whatever file or data set they lie, and nobody can make an image of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import numpy as np
from msgspec import Struct

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.manifest import Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry
    from fetalmlops.domain.models.bundle import Bundle

__all__ = ["IMAGES_FILE", "ROLES", "ImageRecord", "Seen", "TRAINING", "record_of", "recorded", "seen_by"]

IMAGES_FILE: Final = "images.json"
"""Name of the record among a bundle's files."""

TRAINING: Final = "training"
"""Role of a data set that a bundle's network was trained on."""

ROLES: Final = {Split.TRAIN: TRAINING, Split.VALIDATION: "validation", Split.TEST: "test"}
"""What the parts of such a data set were for, where a bundle tells of each."""

_TRAINED: Final = {ROLES[Split.TRAIN], ROLES[Split.VALIDATION]}
_LEARNT_FROM: Final = (Split.TRAIN, Split.VALIDATION)
_DIGITS: Final = 16


class Pictured(Protocol):
    """Has the digest of an image's pixels."""

    @property
    def pixels(self) -> str:
        """SHA-256 in hexadecimal digits, as `fetalmlops.domain.learning.duplicates.pixel_digest` gives it."""


class ImageRecord(Struct, frozen=True, kw_only=True):
    """Images that had a part in making a bundle.

    ``images`` are the last 16 hexadecimal digits of their pixels' digests, sorted; ``complete`` tells whether they are all of
    those that this bundle, and every bundle that it was made from, learnt from.
    """

    images: list[str] = []
    complete: bool = False

    def joined(self, other: ImageRecord) -> ImageRecord:
        """Return the record of a bundle that was made from this one and from other images."""
        return ImageRecord(images=sorted({*self.images, *other.images}), complete=self.complete and other.complete)

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self, order="deterministic") + b"\n"


@dataclass(frozen=True, eq=False)
class Seen:
    """Which images had a part in making a bundle, as far as the bundle tells.

    Parameters
    ----------
    images
        Whether each of the images that were asked about had, [images].
    roles
        What the bundle says that this very data set was for; empty where it does not name it.
    complete
        Whether the bundle records all images that it was made from: only then is no find a proof that none had.
    """

    images: NDArray[np.bool_]
    roles: tuple[str, ...]
    complete: bool

    @property
    def count(self) -> int:
        """How many of the images had a part."""
        return int(self.images.sum())

    def __str__(self) -> str:
        """Return what a person is told."""
        if self.count:
            role = f" ({', '.join(self.roles)})" if self.roles else ""
            return f"{self.count} of {len(self.images)} images had a part in making the bundle{role}"
        if self.complete:
            return f"none of {len(self.images)} images had a part in making the bundle"
        return (
            "the bundle does not record every image that it was made from: these are none of the data sets and images that it "
            "names, but it cannot be known whether the same images had a part under another name"
        )


def record_of(images: Iterable[Pictured], *, complete: bool = True) -> ImageRecord:
    """Return the record of images.

    Parameters
    ----------
    images
        The images, or whatever else has the digest of an image's pixels.
    complete
        Whether these are all that a bundle was made from.
    """
    return ImageRecord(images=sorted({image.pixels[-_DIGITS:] for image in images}), complete=complete)


def recorded(bundle: Bundle) -> ImageRecord:
    """Return a bundle's record of its images; an empty, incomplete one where it has none.

    Raises
    ------
    ContractError
        If the record cannot be read.
    """
    name = bundle.manifest.evidence.images_file
    if name is None:
        return ImageRecord()
    try:
        return msgspec.json.decode(bundle.files[name], type=ImageRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        msg = f"Expected the bundle's record of images in {name}, got a file that breaks it; rebuild the bundle"
        raise ContractError(msg, reason="bundle") from None


def seen_by(bundle: Bundle, data: DataManifest, digest: str, images: Sequence[ImageEntry] | None = None) -> Seen:
    """Return which images of a data set had a part in making a bundle.

    A data set that a bundle was fitted to had one as a whole; of one that it was trained on, the images for training and for
    validation; by those for test a training measures, and learns nothing from them.

    Parameters
    ----------
    bundle
        The bundle.
    data
        Manifest of the data set.
    digest
        The data set's digest.
    images
        The images that are asked about; default: all of the data set.

    Raises
    ------
    ContractError
        If the bundle's record of its images cannot be read.
    """
    asked, manifest, record = data.images if images is None else images, bundle.manifest, recorded(bundle)
    roles = [entry.role for entry in manifest.evidence.data if entry.digest == digest]
    if digest == manifest.provenance.data_digest and TRAINING not in roles:
        roles.append(TRAINING)
    learnt, known = set(roles) & _TRAINED, {*record.images}
    whole = bool(set(roles) - {*ROLES.values()})
    found = [
        whole or (bool(learnt) and image.split in _LEARNT_FROM) or image.pixels[-_DIGITS:] in known for image in asked
    ]
    return Seen(np.array(found, np.bool_), tuple(roles), record.complete)
