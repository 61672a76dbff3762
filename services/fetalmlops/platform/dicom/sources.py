"""The sources table as a file: read, watched for changes, extended.

``sources.toml`` of the state folder holds one ``[[source]]`` table a calling system (its keys are the parameters of
`Source`) and, optionally, ``[unlisted]`` with ``action = "reject"`` (default) or ``"accept"``.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec
import tomli_w

from fetalmlops.domain.contracts.sources import Source, Sources, UnlistedAction
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.dicom.watched import Watched, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SourcesFile", "add_source", "read_sources", "write_default_sources"]

_DEFAULT = """\
# The systems that may send us instances. Changes count at once, without a restart.
# `fetalmlops sources add --help` explains the keys; `fetalmlops sources list` shows the table.

# The simulator of `fetalmlops simulate` and `fetalmlops send`, on this machine. It writes names outside the picture only.
[[source]]
id = "simulator"
ae_title = "FETALSIM"
addresses = ["127.0.0.1", "::1"]
site = "simulated"
purpose = "research"
lane = "live"
pixels = "regions"

# Callers that are not listed: "reject" or "accept".
[unlisted]
action = "reject"
"""


class _Unlisted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    action: UnlistedAction = UnlistedAction.REJECT


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: tuple[Source, ...] = ()
    unlisted: _Unlisted = _Unlisted()


class SourcesFile(Watched[Sources]):
    """The table that counts now. Safe to use from any thread.

    A file that cannot be read leaves the last good table in force, and says so in the log.

    Parameters
    ----------
    path
        The file. Where there is none, nobody is listed.
    check_every_s
        Least time between two looks at the file, in seconds.

    Raises
    ------
    SettingsError
        If the file cannot be read at the start.
    """

    def __init__(self, path: Path, *, check_every_s: float = 1.0) -> None:
        super().__init__("sources", lambda: fingerprint(path), lambda: read_sources(path), check_every_s=check_every_s)


def read_sources(path: Path) -> Sources:
    """Read a sources table; a missing file is an empty table.

    Raises
    ------
    SettingsError
        If the file is not TOML or an entry is not valid; names the place, never the value.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Sources()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Expected {path} to be a readable UTF-8 file, got {type(error).__name__}; mend the file"
        raise SettingsError(msg) from None
    return _parse(text, path)


def add_source(path: Path, source: Source) -> None:
    """Add a source at the end of the table; what the file holds already, comments too, is left as it is.

    Raises
    ------
    SettingsError
        If its id is taken, or the file cannot be read.
    """
    text = path.read_text("utf-8") if path.exists() else ""
    values: dict[str, Any] = msgspec.to_builtins(source)
    entry = tomli_w.dumps({"source": [{name: value for name, value in values.items() if value not in ("", [], ())}]})
    extended = f"{text.rstrip()}\n\n{entry}".lstrip()
    _parse(extended, path)
    _write(path, extended)


def write_default_sources(path: Path) -> bool:
    """Write the table of a new system, which lists the simulator; return False, and write nothing, if there is one."""
    if path.exists():
        return False
    _write(path, _DEFAULT)
    return True


def _parse(text: str, path: Path) -> Sources:
    try:
        content = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        msg = f"Expected {path} to be TOML, got an error: {error}; mend the file"
        raise SettingsError(msg) from None
    except msgspec.ValidationError as error:
        msg = f"Expected {path} to hold valid sources, got an error: {error}; see the keys in its first lines"
        raise SettingsError(msg) from None
    return Sources(content.source, content.unlisted.action)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, "utf-8")
    draft.chmod(0o600)
    draft.replace(path)
