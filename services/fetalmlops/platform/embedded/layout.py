"""The state folder: what lies where, and which version of that layout it has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.files import disk_errors, make_folder, write_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LAYOUT_VERSION", "Layout"]

LAYOUT_VERSION = 1
"""Version of the layout that this release reads and writes."""


@dataclass(frozen=True)
class Layout:
    """The places of one state folder.

    Parameters
    ----------
    home
        The state folder, absolute.

    Examples
    --------
    >>> from pathlib import Path
    >>> Layout(Path("/var/lib/fetalmlops")).log("listener").as_posix()
    '/var/lib/fetalmlops/logs/listener.log'
    """

    home: Path

    @property
    def version_file(self) -> Path:
        """Holds the version of the layout."""
        return self.home / "layout"

    @property
    def run(self) -> Path:
        """Generated configuration, ports, process id and socket."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        """One log a process, rotated."""
        return self.home / "logs"

    @property
    def data(self) -> Path:
        """State of the embedded servers, one folder each."""
        return self.home / "data"

    @property
    def secrets(self) -> Path:
        """Keys and passwords."""
        return self.home / "secrets"

    @property
    def embedded_file(self) -> Path:
        """The settings that the embedded system found: ports and credentials."""
        return self.run / "embedded.toml"

    def log(self, process: str) -> Path:
        """Return the log of a process."""
        return self.logs / f"{process}.log"

    def exists(self) -> bool:
        """Return whether this is a state folder of the version we know.

        Raises
        ------
        EmbeddedError
            If its version is another one.
        """
        try:
            found = self.version_file.read_text("utf-8").strip()
        except FileNotFoundError:
            return False
        if found != str(LAYOUT_VERSION):
            msg = (
                f"Expected layout version {LAYOUT_VERSION} in {self.version_file}, got {found[:20]!r}; use the release "
                "that wrote this state folder, or another FETALMLOPS_HOME"
            )
            raise EmbeddedError(msg)
        return True

    def prepare(self) -> None:
        """Make what is missing of the state folder; harmless to repeat.

        Raises
        ------
        EmbeddedError
            If the folder cannot be written, holds something else, or has another version.
        """
        with disk_errors(self.home):
            known = self.exists()
            if not known and self.home.is_dir() and any(_foreign(self.home)):
                msg = (
                    f"Expected {self.home} to be empty or a state folder of FetalMLOps, got a folder with other files; "
                    "choose another FETALMLOPS_HOME"
                )
                raise EmbeddedError(msg)
            for folder in (self.home, self.run, self.logs, self.data, self.secrets):
                make_folder(folder)
            if not os.access(self.home, os.W_OK):
                msg = f"Expected {self.home} to be writable, got a folder that is not; choose another FETALMLOPS_HOME"
                raise EmbeddedError(msg)
            if not known:
                write_file(self.version_file, f"{LAYOUT_VERSION}\n")


def _foreign(home: Path) -> list[str]:
    """Name what does not belong into a new state folder; a person may have placed settings and keys beforehand."""
    ours = {"fetalmlops.toml", "sources.toml", "secrets", "run", "logs", "data", "objects", "lost+found"}
    return [entry.name for entry in home.iterdir() if entry.name not in ours and not entry.name.startswith(".")]
