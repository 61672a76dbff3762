"""The intended use as a file: the site's own in the state folder, else the proposal that comes with the package."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.learning.intended_use import intended_use_digest, parse_intended_use

if TYPE_CHECKING:
    from pathlib import Path

    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.platform.settings import Settings

__all__ = ["FILE", "open_intended_use", "packaged_intended_use"]

FILE: Final = "intended_use.toml"
"""Name of the file, in the state folder and in the package."""


def packaged_intended_use() -> bytes:
    """Return the proposal that comes with the package."""
    return resources.files("fetalmlops.domain.learning.data").joinpath(FILE).read_bytes()


def open_intended_use(settings: Settings, path: Path | None = None) -> tuple[IntendedUse, str]:
    """Read the intended use that counts here, and its digest.

    Parameters
    ----------
    settings
        The settings; they say where the state folder is.
    path
        Another file; None for the state folder's, or where there is none, the packaged proposal.

    Raises
    ------
    SettingsError
        If the file cannot be read.
    ContractError
        If it is no intended use.
    """
    own = settings.home / FILE
    data = packaged_intended_use() if path is None and not own.exists() else _read(path or own)
    return parse_intended_use(data), intended_use_digest(data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"Expected {path.name} to be a readable file, got {type(error).__name__}; check its place and its rights"
        raise SettingsError(msg) from None
