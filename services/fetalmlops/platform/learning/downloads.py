"""Downloads of public data sets, at set-up only: gone on with where they broke off, verified, and unpacked safely."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import stat
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
from msgspec import Meta, Struct

from fetalmlops.domain.errors import ContractError, DigestMismatchError, SettingsError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Offer", "download", "find_offer", "read_catalogue", "unpack"]

_CHUNK = 1 << 20
_TIMEOUT_S = 60
_ATTEMPTS = 5
_EXPANSION = 4  # pictures hardly grow when they are unpacked
_PARTIAL = 206


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data set that can be downloaded as one zip archive.

    ``page`` is for people. ``size`` is in bytes, ``md5`` what the host publishes. ``marker`` is a file that lies in the data
    set's folder, wherever in the archive that is.
    """

    title: str
    page: str
    url: str
    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    size: Annotated[int, Meta(ge=1)]
    md5: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    layout: str
    marker: str
    licence: str


def read_catalogue() -> dict[str, Offer]:
    """Return the data sets that the package knows, by name."""
    data = resources.files("fetalmlops.domain.learning.data").joinpath("catalogue.toml").read_bytes()
    return msgspec.toml.decode(data, type=dict[str, Offer])


def find_offer(name: str) -> Offer:
    """Return a data set of the catalogue.

    Raises
    ------
    SettingsError
        If there is none of this name.
    """
    catalogue = read_catalogue()
    if name not in catalogue:
        msg = f"Expected a data set among {', '.join(catalogue)}, got another; choose one of these"
        raise SettingsError(msg)
    return catalogue[name]


def download(offer: Offer, folder: Path, *, url: str = "", progress: Callable[[int], None] = lambda _: None) -> Path:
    """Download an archive, or go on with it, and verify it.

    Parameters
    ----------
    offer
        What to download.
    folder
        Where to put it; an archive that is there already is verified only.
    url
        Another place that has the same file; empty for the offer's own.
    progress
        Called with the bytes that are there.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    TransientError
        If the host cannot be reached, or breaks off again and again; what came stays, and the next call goes on with it.
    DigestMismatchError
        If what came is not the published file; it is removed.
    SettingsError
        If there is too little space, or the URL is none of HTTP.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive, part = folder / offer.file, folder / f"{offer.file}.part"
    if archive.exists():
        _verify(archive, offer)
        return archive
    _check_space(folder, offer, part)
    failures = 0
    while _size(part) < offer.size:
        before = _size(part)
        try:
            _receive(url or offer.url, part, offer, progress)
        except (OSError, http.client.HTTPException) as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= _ATTEMPTS or not _worth_trying(error):
                _give_up(offer, archive, error)
    _verify(part, offer)
    part.replace(archive)
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into a new folder, wholly or not at all.

    Parameters
    ----------
    archive
        The archive.
    folder
        The folder to make; one that is there already is left as it is.

    Raises
    ------
    ContractError
        If it is no zip archive, is damaged, grows beyond all measure, or has an entry that would land outside the folder.
    """
    if folder.exists():
        return
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            entries = [entry for entry in file.infolist() if not entry.is_dir()]
            _check_entries(entries, archive.stat().st_size)
            for entry in entries:
                place = draft / entry.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                with file.open(entry) as source, place.open("wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, ContractError):
            raise
        msg = (
            f"Expected a whole zip archive, got one that cannot be unpacked ({type(error).__name__}); download it again"
        )
        raise ContractError(msg, reason="archive") from None
    draft.replace(folder)


def _receive(url: str, part: Path, offer: Offer, progress: Callable[[int], None]) -> None:
    """Append what the host sends to the part, from where it ends."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        msg = "Expected a URL of https or http, got another; name one"
        raise SettingsError(msg)
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310 - checked above
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - checked above
        goes_on = response.status == _PARTIAL and _begins_at(response.headers.get("Content-Range", ""), start)
        received = start if goes_on else 0
        with part.open("ab" if goes_on else "wb") as file:
            while block := response.read(_CHUNK):
                received += len(block)
                if received > offer.size:
                    _mismatch(part)
                file.write(block)
                progress(received)
    if received < offer.size:
        msg = "the host broke off"
        raise ConnectionError(msg)


def _begins_at(content_range: str, start: int) -> bool:
    return content_range.replace("=", " ").startswith(f"bytes {start}-")


def _worth_trying(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    # A name that cannot be resolved or a refused connection will not mend within seconds.
    return not isinstance(error, urllib.error.URLError)


def _give_up(offer: Offer, archive: Path, error: Exception) -> NoReturn:
    what = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
    host = urllib.parse.urlsplit(offer.page).hostname
    msg = (
        f"Expected {offer.file} from {host} or the --url given, got {what}; run the command again to go on, or download the "
        f"file elsewhere ({offer.page}), put it to {archive}, and run the command again"
    )
    raise TransientError(msg, dependency="download", everyone=True) from None


def _check_space(folder: Path, offer: Offer, part: Path) -> None:
    needed = 2 * offer.size - _size(part)
    free = shutil.disk_usage(folder).free
    if free < needed:
        msg = f"Expected {needed / 1e9:.1f} GB of free space to download and unpack, got {free / 1e9:.1f}; make room"
        raise SettingsError(msg)


def _verify(path: Path, offer: Offer) -> None:
    if _size(path) != offer.size:
        _mismatch(path)
    hasher = hashlib.md5(usedforsecurity=False)  # what the host publishes: against damage, not against an attack
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            hasher.update(block)
    if hasher.hexdigest() != offer.md5:
        _mismatch(path)


def _mismatch(path: Path) -> NoReturn:
    path.unlink(missing_ok=True)
    msg = "Expected the published file by its size and MD5, got another, which was removed; download it again"
    raise DigestMismatchError(msg)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_entries(entries: list[zipfile.ZipInfo], packed: int) -> None:
    if sum(entry.file_size for entry in entries) > _EXPANSION * packed + _CHUNK:
        msg = f"Expected an archive that grows to {_EXPANSION} times its size, got one that grows more; leave it"
        raise ContractError(msg, reason="archive")
    seen: set[str] = set()
    for entry in entries:
        path = PurePosixPath(entry.filename)
        outside = path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename
        special = stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG)
        if outside or special or entry.filename in seen:
            msg = "Expected an archive of plain files within its folder, got a link, a path that leaves it, or a file twice"
            raise ContractError(msg, reason="archive")
        seen.add(entry.filename)
