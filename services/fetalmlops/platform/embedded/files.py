"""Files of the state folder: written whole or not at all, and readable by the owner only."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["disk_errors", "make_folder", "write_file"]

_ADVICE = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some of your disk quota",
    errno.EROFS: "choose another FETALMLOPS_HOME: this file system is read-only",
    errno.EACCES: "choose another FETALMLOPS_HOME, or give yourself the right to write there",
    errno.EPERM: "choose another FETALMLOPS_HOME, or give yourself the right to write there",
    errno.ENOTDIR: "choose another FETALMLOPS_HOME: a file is where a folder has to be",
    errno.EEXIST: "choose another FETALMLOPS_HOME: a file is where a folder has to be",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of the file system into `EmbeddedError` with advice.

    Parameters
    ----------
    path
        What is worked on, for the text.

    Raises
    ------
    EmbeddedError
        If the file system refuses: full, read-only, or not ours.
    """
    try:
        yield
    except FetalMLOpsError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        advice = _ADVICE.get(error.errno or 0, "see `fetalmlops doctor`")
        msg = f"Expected to write {error.filename or path}, got: {reason}; {advice}"
        raise EmbeddedError(msg) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it; the folder itself has mode 0700."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def write_file(path: Path, text: str) -> None:
    """Replace a file by `text` with mode 0600, durably and in one step."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
