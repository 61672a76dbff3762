"""Who may call: the digests of the callers' keys, in a file that is watched for changes.

A key is 256 random bits, so its plain SHA-256 cannot be turned back; the file holds no key.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import stat
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import tomli_w
from msgspec import Meta

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.dicom.watched import Watched, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NOBODY", "Accounts", "KeysFile", "Key", "add_key", "is_loopback", "read_keys", "remove_key"]

NOBODY: Final = "loopback"
"""Account of callers where no key is asked for."""

_PREFIX: Final = "fmo_"
_KEY_BYTES: Final = 32
_NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,31}\Z"
_HEAD: Final = """\
# Callers of the gateway; `fetalmlops keys gateway` writes here, and changes count at once. No key can be read from this.

"""


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One caller: the name of its account, and the SHA-256 of its key, hexadecimal."""

    name: Annotated[str, Meta(pattern=_NAME)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Accounts:
    """All callers.

    Parameters
    ----------
    keys
        One a caller.

    Examples
    --------
    >>> accounts = Accounts((Key(name="ris", sha256=hashlib.sha256(b"example").hexdigest()),))
    >>> accounts.find("example"), accounts.find("another")
    ('ris', None)
    """

    keys: tuple[Key, ...] = ()

    def find(self, token: str) -> str | None:
        """Return the account of a key, None where there is none; every digest is compared in constant time."""
        digest = _digest(token)
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key.name
        return found


class KeysFile(Watched[Accounts]):
    """The callers that count now. Safe to use from any thread.

    A file that cannot be read leaves the last good state in force.

    Parameters
    ----------
    path
        The file. Where there is none, there are no callers.
    check_every_s
        Least time between two looks at the file, in seconds.

    Raises
    ------
    SettingsError
        If the file cannot be read at the start.
    """

    def __init__(self, path: Path, *, check_every_s: float = 1.0) -> None:
        super().__init__(
            "gateway_keys", lambda: fingerprint(path), lambda: read_keys(path), check_every_s=check_every_s
        )


def read_keys(path: Path) -> Accounts:
    """Read the file; a missing one holds no caller.

    Raises
    ------
    SettingsError
        If it cannot be read, others than its owner may write it, or an entry is not valid.
    """
    try:
        text, mode = path.read_text("utf-8"), stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Accounts()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Expected {path} to be a readable UTF-8 file, got {type(error).__name__}; mend the file"
        raise SettingsError(msg) from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        msg = f"Expected {path} to be closed to the writing of others, got mode {mode:04o}; run `chmod go-w` on it"
        raise SettingsError(msg)
    try:
        keys = msgspec.convert(tomllib.loads(text), _File).key
    except (tomllib.TOMLDecodeError, msgspec.ValidationError):
        msg = f"Expected {path} to hold [[key]] tables with name and sha256, got others; mend the file"
        raise SettingsError(msg) from None
    if len({key.name for key in keys}) < len(keys):
        msg = f"Expected each name once in {path}, got one twice; remove one of them"
        raise SettingsError(msg)
    return Accounts(keys)


def add_key(path: Path, name: str) -> str:
    """Make a key for a new caller, and return it: it is not kept, and cannot be shown again.

    Raises
    ------
    SettingsError
        If the name is taken or not valid, or the file cannot be read.
    """
    keys = read_keys(path).keys
    if not re.match(_NAME, name):
        msg = "Expected a name of up to 32 lower-case letters, digits, dots, dashes and underscores, got another"
        raise SettingsError(msg)
    if any(key.name == name for key in keys):
        msg = f"Expected a name that is free, got {name}, which has a key; remove it first, or choose another"
        raise SettingsError(msg)
    token = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    _write(path, (*keys, Key(name=name, sha256=_digest(token))))
    return token


def remove_key(path: Path, name: str) -> None:
    """Take a caller's key away; raises `SettingsError` if there is none of this name."""
    keys = read_keys(path).keys
    left = tuple(key for key in keys if key.name != name)
    if len(left) == len(keys):
        msg = f"Expected a caller that has a key, got {name}; `fetalmlops keys gateway list` names them"
        raise SettingsError(msg)
    _write(path, left)


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("gateway")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(_HEAD + tomli_w.dumps({"key": [msgspec.to_builtins(key) for key in keys]}), "utf-8")
    draft.chmod(0o600)
    draft.replace(path)
