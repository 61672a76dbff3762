"""Data sets as files: the manifests in the state folder, and the images where their owner keeps them.

``datasets/NAME/manifest.json`` of the state folder is the manifest; ``location.json`` beside it says where the images lie,
and is not part of the data set's digest: the same data set may lie elsewhere on another machine.
"""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_type_hints

import cv2
import msgspec
import numpy as np

from fetalmlops.domain.errors import ContractError, PermanentError, SettingsError
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.learning.duplicates import perceptual_hash, pixel_digest
from fetalmlops.domain.learning.manifest import (
    DataManifest,
    ImageEntry,
    decode_data_manifest,
    encode_data_manifest,
    manifest_digest,
)
from fetalmlops.platform.dicom.decoding import configure
from fetalmlops.platform.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.layouts.listing import Listed
    from fetalmlops.platform.settings import Settings

__all__ = [
    "DICOM_SUFFIXES",
    "LEDGER",
    "LOCATION",
    "MANIFEST",
    "Dataset",
    "add_dataset",
    "as_grey",
    "check_name",
    "datasets_folder",
    "list_datasets",
    "measure_images",
    "open_dataset",
    "read_screen",
]

MANIFEST: Final = "manifest.json"
"""File of the manifest in a data set's folder."""

LOCATION: Final = "location.json"
"""File beside it that says where the images lie."""

LEDGER: Final = "ledger.jsonl"
"""File of the ledger in a data set's folder of the state folder; see `fetalmlops.platform.learning.ledger`."""

DICOM_SUFFIXES: Final = frozenset({".dcm", ""})
"""Suffixes of files that are read as DICOM; all others are pictures."""

_CHANNELS = 3
_DEEP = 257  # 65,535 / 255


@dataclass(frozen=True)
class Dataset:
    """A data set whose images can be read.

    Parameters
    ----------
    manifest
        What is known of its images.
    digest
        SHA-256 of the manifest's bytes, 64 hexadecimal digits.
    root
        Folder within which the images' paths lie.
    ledger
        File that its uses are written to, in the state folder wherever the manifest lies; None for none.
    """

    manifest: DataManifest
    digest: str
    root: Path
    ledger: Path | None = None

    def read(self, entry: ImageEntry) -> NDArray[np.uint8]:
        """Return the decoded screen of an image: grey [rows, columns], or RGB [rows, columns, 3] where it has colour.

        Raises
        ------
        ContractError
            If the file is absent or cannot be decoded (reason ``data-image``).
        """
        return read_screen(self._bytes(entry), entry.path, entry.frame)

    def read_checked(self, entry: ImageEntry) -> NDArray[np.uint8]:
        """Return the decoded screen of an image whose file is the one that was added.

        Raises
        ------
        ContractError
            As `read`, or if the file has changed (reason ``data-changed``).
        """
        data = self._bytes(entry)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            msg = "Expected an image as it was when the data was added, got a changed one; restore it, or add the data again"
            raise ContractError(msg, reason="data-changed")
        return read_screen(data, entry.path, entry.frame)

    def _bytes(self, entry: ImageEntry) -> bytes:
        return _read_file(self.root / entry.path)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a data set, before any image is read.

    Raises
    ------
    ContractError
        If it has other characters, or too many.
    """
    try:
        msgspec.convert(name, get_type_hints(DataManifest, include_extras=True)["name"])
    except msgspec.ValidationError:
        msg = "Expected a name of up to 64 lower-case letters, digits, dots and hyphens, got another; choose one"
        raise ContractError(msg, reason="data-manifest") from None


def datasets_folder(settings: Settings) -> Path:
    """Return the folder of all data sets' manifests."""
    return settings.home / "datasets"


def list_datasets(settings: Settings) -> list[str]:
    """Return the names of the data sets that were added, in order."""
    return sorted(path.parent.name for path in datasets_folder(settings).glob(f"*/{MANIFEST}"))


def open_dataset(settings: Settings, name_or_path: str | Path) -> Dataset:
    """Open a data set.

    Parameters
    ----------
    settings
        The settings; they say where the state folder is.
    name_or_path
        Its name, or the path of a folder with a manifest. A folder without a location holds the images too.

    Raises
    ------
    SettingsError
        If there is none of this name.
    ContractError
        If its manifest or location cannot be read.
    """
    folder = _find_folder(settings, name_or_path)
    data = (folder / MANIFEST).read_bytes()
    manifest = decode_data_manifest(data)
    ledger = datasets_folder(settings) / manifest.name / LEDGER
    return Dataset(manifest, manifest_digest(data), _read_location(folder), ledger)


def add_dataset(settings: Settings, manifest: DataManifest, root: Path) -> Path:
    """Write a data set's manifest and location into the state folder; one of the same name is replaced.

    Parameters
    ----------
    settings
        The settings; they say where the state folder is.
    manifest
        The manifest.
    root
        Folder within which the images lie.

    Returns
    -------
    Path
        The data set's folder.

    Raises
    ------
    ContractError
        If the manifest breaks its own schema, such as by its name.
    """
    data = encode_data_manifest(manifest)
    decode_data_manifest(data)  # what could not be read again is not written, and a name that is none names no folder
    folder = datasets_folder(settings) / manifest.name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_file(folder / LOCATION, msgspec.json.encode({"root": str(root.absolute())}) + b"\n")
    replace_file(folder / MANIFEST, data)
    return folder


def measure_images(
    root: Path,
    images: Sequence[Listed],
    *,
    progress: Callable[[], None] = lambda: None,
    workers: int | None = None,
) -> tuple[list[ImageEntry], list[str]]:
    """Read every image of a listing once, for its digests, perceptual hash and size.

    Parameters
    ----------
    root
        Folder within which the images lie.
    images
        The images.
    progress
        Called after each image.
    workers
        Threads, None for one a core: decoding and hashing leave the interpreter free.

    Returns
    -------
    tuple[list[ImageEntry], list[str]]
        The entries in order, and the paths of those that cannot be read.
    """
    configure()
    entries: list[ImageEntry] = []
    unreadable: list[str] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for image, entry in zip(images, pool.map(lambda listed: _measure(root, listed), images), strict=True):
            if entry is None:
                unreadable.append(image.path)
            else:
                entries.append(entry)
            progress()
    return entries, unreadable


def read_screen(data: bytes, path: str, frame: int = 0) -> NDArray[np.uint8]:
    """Decode a picture, or a frame of a DICOM file: grey [rows, columns], or RGB [rows, columns, 3] where it has colour.

    Parameters
    ----------
    data
        Bytes of the file.
    path
        Its path, whose suffix says whether it is DICOM.
    frame
        Index of the frame, from 0.

    Raises
    ------
    ContractError
        If it cannot be decoded (reason ``data-image``).
    """
    return _decode_dicom(data, frame) if Path(path).suffix.lower() in DICOM_SUFFIXES else _decode_picture(data)


def as_grey(screen: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the grey levels of a screen, [rows, columns]."""
    return screen if screen.ndim == 2 else np.asarray(cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY), np.uint8)


def _measure(root: Path, image: Listed) -> ImageEntry | None:
    try:
        data = _read_file(root / image.path)
        grey = as_grey(read_screen(data, image.path, image.frame))
    except PermanentError:
        return None
    return ImageEntry(
        path=image.path,
        sha256=hashlib.sha256(data).hexdigest(),
        pixels=pixel_digest(grey),
        hash=perceptual_hash(grey),
        patient=image.patient,
        split=image.split,
        plane=image.plane,
        brain_plane=image.brain_plane,
        scanner=image.scanner,
        operator=image.operator,
        site=image.site,
        rows=grey.shape[0],
        columns=grey.shape[1],
        frame=image.frame,
    )


def _decode_picture(data: bytes) -> NDArray[np.uint8]:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        picture = None
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        msg = "Expected a picture of 8 or 16 bits that can be decoded, got none; restore the file, or leave it out"
        raise ContractError(msg, reason="data-image")
    if picture.dtype == np.uint16:
        picture = (picture // _DEEP).astype(np.uint8)
    if picture.ndim == 2:
        return np.asarray(picture)
    if picture.shape[2] < _CHANNELS:
        return np.ascontiguousarray(picture[..., 0])
    blue, green, red = (picture[..., channel] for channel in range(_CHANNELS))
    if np.array_equal(blue, green) and np.array_equal(green, red):
        return np.ascontiguousarray(blue)
    return np.ascontiguousarray(picture[..., 2::-1])


def _decode_dicom(data: bytes, frame: int) -> NDArray[np.uint8]:

    try:
        image = open_image(io.BytesIO(data))
        colour = image.colour(frame + 1)
        screen = image.grey(frame + 1) if colour is None else colour
    except (PermanentError, IndexError) as error:
        msg = f"Expected a DICOM file with this frame, got one that cannot be decoded ({type(error).__name__}); restore it"
        raise ContractError(msg, reason="data-image") from None
    if screen.ndim == _CHANNELS and (screen[..., :1] == screen).all():
        return np.ascontiguousarray(screen[..., 0])
    return screen


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"Expected a readable image, got {type(error).__name__}; restore the file, or add the data again"
        raise ContractError(msg, reason="data-image") from None


def _find_folder(settings: Settings, name_or_path: str | Path) -> Path:
    for folder in (datasets_folder(settings) / name_or_path, Path(name_or_path)):
        if (folder / MANIFEST).is_file():
            return folder
    known = ", ".join(list_datasets(settings)) or "none"
    msg = f"Expected the name of a data set, or a folder with a {MANIFEST}, got neither; those added: {known}"
    raise SettingsError(msg)


def _read_location(folder: Path) -> Path:
    try:
        location = msgspec.json.decode((folder / LOCATION).read_bytes(), type=dict[str, str])
        return Path(location["root"])
    except FileNotFoundError:
        return folder
    except (OSError, msgspec.MsgspecError, KeyError) as error:
        msg = f"Expected {LOCATION} to say where the images lie, got {type(error).__name__}; add the data again"
        raise ContractError(msg, reason="data-location") from None
