"""Bundles in folders, and the one that comes with the package."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import ObjectMissingError
from fetalmlops.domain.models.manifest import MANIFEST_NAME, decode_manifest

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

__all__ = ["bundled_files", "read_bundle_folder"]

_BUNDLED = "bundles/demonstration"


def bundled_files() -> dict[str, bytes]:
    """Return the files of the demonstration bundle that the package carries, by name."""
    return _read(resources.files("fetalmlops") / _BUNDLED)


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
