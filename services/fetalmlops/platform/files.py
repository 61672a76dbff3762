"""Files that are whole or not there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OWNER_ONLY", "replace_file"]

OWNER_ONLY = 0o600
"""Mode of files that only their owner may read."""


def replace_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file in one step: until all is written, what was there before stays. It is not forced to the disk.

    Parameters
    ----------
    path
        The file.
    data
        What it is to hold.
    mode
        Its rights, before the umask.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    draft.replace(path)
