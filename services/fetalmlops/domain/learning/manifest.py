"""Data manifests: which images a model may learn from, which it is judged by, and what is known of each.

A manifest is JSON beside the images that it names; the SHA-256 of its bytes is the data set's digest, and since it holds
the digest of every image, it names every pixel.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from fetalmlops.domain.contracts.events import Sha256
from fetalmlops.domain.contracts.planes import BrainPlane, OpenEnum, Plane
from fetalmlops.domain.errors import ContractError

__all__ = [
    "FORMAT",
    "DataManifest",
    "ImageEntry",
    "Split",
    "decode_data_manifest",
    "encode_data_manifest",
    "manifest_digest",
]

FORMAT: Final = 1
"""Version of the layout that this code reads and writes."""

RelativePath = Annotated[
    str, Meta(pattern=r"^(?!/)(?!.*(^|/)\.\.(/|$))[^\\]{1,512}$", description="Within the data's folder")
]
Group = Annotated[str, Meta(max_length=64, description="Empty where it is not known")]


class Split(OpenEnum):
    """What an image is for. No patient has images in two of them."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    UNKNOWN = "unknown"


class ImageEntry(Struct, frozen=True, kw_only=True):
    """One image: a PNG or JPEG file, or one frame of a DICOM file.

    ``sha256`` is that of the file, ``pixels`` that of its decoded grey pixels, which finds the same image in another file;
    ``hash`` is 64 bits of a perceptual hash as 16 hexadecimal digits, which finds nearly the same image. ``patient`` is a
    pseudonym or the number of a public data set. ``plane`` is None where there is no label, ``brain_plane`` where the image
    shows no brain or nobody said which.
    """

    path: RelativePath
    sha256: Sha256
    pixels: Sha256
    hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
    patient: Annotated[str, Meta(min_length=1, max_length=64)]
    split: Split
    plane: Plane | None = None
    brain_plane: BrainPlane | None = None
    scanner: Group = ""
    operator: Group = ""
    site: Group = ""
    rows: Annotated[int, Meta(ge=1)]
    columns: Annotated[int, Meta(ge=1)]
    frame: Annotated[int, Meta(ge=0, description="Index of the frame in a file of several")] = 0


class DataManifest(Struct, frozen=True, kw_only=True):
    """A data set.

    ``layout`` names the reader that made it, such as ``fetal-planes``. ``excluded`` counts images left out, by reason.
    """

    format: int = FORMAT
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
    layout: str
    licence: str
    citation: str = ""
    images: Annotated[list[ImageEntry], Meta(min_length=1)]
    excluded: dict[str, int] = {}

    def of(self, split: Split) -> list[ImageEntry]:
        """Return the images of a split, in order."""
        return [image for image in self.images if image.split is split]


def encode_data_manifest(manifest: DataManifest) -> bytes:
    """Return a manifest as JSON, one image a line's worth; the same manifest gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"


def manifest_digest(data: bytes) -> str:
    """Return a data set's digest: the SHA-256 of its manifest's bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def decode_data_manifest(data: bytes) -> DataManifest:
    """Read a manifest.

    Raises
    ------
    ContractError
        If it is not JSON, breaks the schema, or is of another format.
    """
    try:
        manifest = msgspec.json.decode(data, type=DataManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"Expected a data manifest of format {FORMAT}, got a file that breaks it: {error}; add the data again"
        raise ContractError(msg, reason="data-manifest") from None
    if manifest.format != FORMAT:
        msg = (
            f"Expected a data manifest of format {FORMAT}, got {manifest.format}; read it with the release that made it"
        )
        raise ContractError(msg, reason="data-manifest")
    return manifest
