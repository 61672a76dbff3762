"""Bundles in folders: those of the state folder, any other, and those that come with the package."""

from __future__ import annotations

import shutil
import uuid
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.errors import ObjectMissingError, SettingsError
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.manifest import MANIFEST_NAME, decode_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

    from fetalmlops.domain.models.bundle import Bundle

__all__ = [
    "DEMONSTRATION",
    "FETAL_PLANES",
    "PACKAGED",
    "bundled_files",
    "bundles_folder",
    "find_bundle_files",
    "list_bundles",
    "open_bundle",
    "packaged_bundle",
    "read_bundle_folder",
    "save_bundle",
]

DEMONSTRATION: Final = "demonstration"
"""The bundle that knows the simulator's phantoms: what an installation starts with."""

FETAL_PLANES: Final = "fetal-planes"
"""The bundle for real images."""

PACKAGED: Final = (DEMONSTRATION, FETAL_PLANES)
"""Names of the bundles that the package carries."""

_DRAFT: Final = ".draft-"


def bundles_folder(home: Path) -> Path:
    """Return the folder of a state folder's own bundles, one folder ``NAME-VERSION`` each."""
    return home / "bundles"


def list_bundles(home: Path) -> list[str]:
    """Return the names by which bundles can be opened: the packaged ones, then those of the state folder in order."""
    own = sorted(path.parent.name for path in bundles_folder(home).glob(f"*/{MANIFEST_NAME}"))
    return [*PACKAGED, *(name for name in own if not name.startswith(_DRAFT))]


def find_bundle_files(home: Path, name: str) -> dict[str, bytes]:
    """Return the files of a bundle by its name.

    Parameters
    ----------
    home
        State folder.
    name
        A packaged one's name, a name of the state folder, or the path of a folder.

    Raises
    ------
    SettingsError
        If there is no such bundle; the text lists those there are.
    ObjectMissingError, ContractError
        As `read_bundle_folder`.
    """
    if name in PACKAGED:
        return packaged_bundle(name)
    for folder in (bundles_folder(home) / name, Path(name)):
        if (folder / MANIFEST_NAME).is_file():
            return read_bundle_folder(folder)
    msg = (
        f"Expected a bundle's folder or one of the names {', '.join(list_bundles(home))}, got neither; name one of them"
    )
    raise SettingsError(msg)


def open_bundle(home: Path, name: str) -> Bundle:
    """Return a verified bundle by its name; raises as `find_bundle_files` and `load_bundle`."""
    return load_bundle(find_bundle_files(home, name))


def save_bundle(home: Path, files: Mapping[str, bytes]) -> Path:
    """Write a bundle into the state folder, whole or not at all, and return its folder.

    Raises
    ------
    SettingsError
        If one of its name and version is there already: a bundle is never changed.
    """
    manifest = decode_manifest(files[MANIFEST_NAME])
    folder = bundles_folder(home) / f"{manifest.name}-{manifest.version}"
    if folder.exists():
        msg = f"Expected a name and version that is not taken, got {folder.name}, which is; give another --name or --version"
        raise SettingsError(msg)
    draft = folder.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
    draft.mkdir(parents=True, mode=0o700)
    try:
        for name, data in files.items():
            (draft / name).write_bytes(data)
        draft.rename(folder)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder


def packaged_bundle(name: str) -> dict[str, bytes]:
    """Return the files of a bundle that the package carries, by name.

    Raises
    ------
    SettingsError
        If the package carries none of that name; the text lists those that it does.
    """
    if name not in PACKAGED:
        msg = f"Expected a bundle of the package, one of {', '.join(PACKAGED)}, got another; choose one of these"
        raise SettingsError(msg)
    return _read(resources.files("fetalmlops") / "bundles" / name)


def bundled_files() -> dict[str, bytes]:
    """Return the files of the demonstration bundle, by name."""
    return packaged_bundle(DEMONSTRATION)


def read_bundle_folder(folder: Path) -> dict[str, bytes]:
    """Return a bundle's files by name: the manifest and what it lists. `load_bundle` verifies them.

    Raises
    ------
    ObjectMissingError
        If the manifest or a file that it lists is not there.
    ContractError
        If the manifest breaks its contract.
    """
    return _read(folder)


def _read(folder: Traversable) -> dict[str, bytes]:
    manifest = _read_file(folder, MANIFEST_NAME)
    names = decode_manifest(manifest).files
    return {MANIFEST_NAME: manifest, **{name: _read_file(folder, name) for name in names}}


def _read_file(folder: Traversable, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        msg = f"Expected the bundle's file {name} in {folder}, got none; copy the whole bundle"
        raise ObjectMissingError(msg) from None
