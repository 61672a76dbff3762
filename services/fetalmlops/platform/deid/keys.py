"""Keys and passwords in the state folder: made once, readable by their owner only, never replaced silently.

A lost pseudonym key cannot be made again: the same patient would get another pseudonym. So a missing key is made
only where `Settings.provision_keys` allows it and the state folder holds no data yet.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fetalmlops.domain.contracts.identifiers import KEY_BYTES, PseudonymKey
from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fetalmlops.platform.settings import Settings

__all__ = [
    "READABLE_BY_GROUP",
    "VAULT_KEY_BYTES",
    "VaultKeys",
    "dump_vault_keys",
    "load_pseudonym_key",
    "load_valkey_password",
    "load_vault_keys",
    "make_missing_keys",
    "pseudonym_key_file",
    "replace_secret",
    "valkey_password_file",
    "vault_key_file",
    "with_new_vault_key",
]

READABLE_BY_GROUP = 0o440
"""Mode of keys that services read which run as another user: so they cannot change them."""

VAULT_KEY_BYTES = 64
"""Length of a vault key in bytes: AES-SIV with two AES-256 keys (RFC 5297)."""


@dataclass(frozen=True)
class VaultKeys:
    """The ring of keys that encrypt the vault: the active one writes, all of them read.

    Parameters
    ----------
    active
        Name of the key that encrypts.
    keys
        Name to key of `VAULT_KEY_BYTES` bytes.
    made
        Name to when it was made (ISO 8601, UTC), where that is known.

    Examples
    --------
    >>> VaultKeys("k1", {"k1": bytes(64)})
    VaultKeys(active='k1')
    """

    active: str
    keys: Mapping[str, bytes] = field(repr=False)
    made: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.active not in self.keys:
            msg = "Expected the active vault key to be in the ring, got another name; mend the vault's key file"
            raise SettingsError(msg)
        for name, key in self.keys.items():
            if len(key) != VAULT_KEY_BYTES:
                msg = f"Expected {VAULT_KEY_BYTES} bytes in vault key {name!r}, got {len(key)}; restore the vault's key file"
                raise SettingsError(msg)

    def fingerprint(self, name: str) -> str:
        """Return 16 hexadecimal digits that name a key of the ring without revealing it."""
        return hmac.digest(self.keys[name], b"fetalmlops vault key fingerprint", "sha256").hex()[:16]


def pseudonym_key_file(settings: Settings) -> Path:
    """Return the place of the project's pseudonym key: 64 hexadecimal digits."""
    return settings.secrets_folder / "pseudonym.key"


def vault_key_file(settings: Settings) -> Path:
    """Return the place of the vault's key ring: JSON with ``active`` and ``keys`` (name to Base64)."""
    return settings.secrets_folder / "vault.json"


def valkey_password_file(settings: Settings) -> Path:
    """Return the place of the embedded Valkey's password."""
    return settings.secrets_folder / "valkey.password"


def load_pseudonym_key(settings: Settings) -> PseudonymKey:
    """Read the project's pseudonym key.

    Raises
    ------
    SettingsError
        If it is missing, readable by others, or not 32 bytes in hexadecimal digits.
    """
    path = pseudonym_key_file(settings)
    text = _read_secret(path)
    try:
        return PseudonymKey(settings.project, bytes.fromhex(text))
    except ValueError:
        msg = f"Expected {path} to hold {2 * KEY_BYTES} hexadecimal digits, got {len(text)} characters; restore the key file"
        raise SettingsError(msg) from None


def load_vault_keys(settings: Settings) -> VaultKeys:
    """Read the ring of keys that encrypt the vault.

    Raises
    ------
    SettingsError
        If it is missing, readable by others, or not a key ring.
    """
    path = vault_key_file(settings)
    text = _read_secret(path)
    try:
        ring: Any = json.loads(text)
        keys = {str(name): base64.b64decode(key, validate=True) for name, key in ring["keys"].items()}
        active = str(ring["active"])
        made = {str(name): str(moment) for name, moment in ring.get("made", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        msg = (
            f'Expected {path} to hold {{"active": name, "keys": {{name: Base64}}}}, got another form; restore the file'
        )
        raise SettingsError(msg) from None
    return VaultKeys(active, keys, made)


def load_valkey_password(settings: Settings) -> str:
    """Read the embedded Valkey's password.

    Raises
    ------
    SettingsError
        If it is missing, empty or readable by others.
    """
    path = valkey_password_file(settings)
    password = _read_secret(path)
    if not password:
        msg = f"Expected a password in {path}, got an empty file; restore it"
        raise SettingsError(msg)
    return password


def make_missing_keys(settings: Settings) -> list[Path]:
    """Make the keys that are missing, if this is allowed and nothing depends on lost ones.

    Returns
    -------
    list of Path
        The files that were made.

    Raises
    ------
    SettingsError
        If keys are missing and `settings.provision_keys` is off, or the state folder already has data.
    """
    keys: dict[Path, Callable[[], str]] = {
        pseudonym_key_file(settings): lambda: secrets.token_hex(KEY_BYTES),
        vault_key_file(settings): _new_vault_ring,
    }
    # Nothing is encrypted or derived with the password: unlike a key it can be made anew at any time.
    makers: dict[Path, Callable[[], str]] = {**keys, valkey_password_file(settings): lambda: secrets.token_urlsafe(32)}
    missing = [path for path in makers if not path.exists()]
    if missing and not settings.provision_keys:
        raise SettingsError(_missing(missing[0]))
    lost = [path for path in missing if path in keys]
    if lost and _has_data(settings):
        msg = (
            f"Expected {lost[0]} beside the data of this state folder, got no such file; restore it from a backup: a "
            "new key would give known patients other pseudonyms, or leave the vault unreadable"
        )
        raise SettingsError(msg)
    for path in missing:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_secret(path, makers[path]())
    return missing


def dump_vault_keys(ring: VaultKeys) -> str:
    """Return the text of a vault's key file."""
    keys = {name: base64.b64encode(key).decode() for name, key in ring.keys.items()}
    return json.dumps({"active": ring.active, "keys": keys, "made": dict(ring.made)}, indent=2)


def with_new_vault_key(ring: VaultKeys | None = None) -> VaultKeys:
    """Return a ring with one more key, which is active: named by the number after the highest one."""
    keys, made = (dict(ring.keys), dict(ring.made)) if ring else ({}, {})
    number = max((int(name[1:]) for name in keys if name[:1] == "k" and name[1:].isdecimal()), default=0) + 1
    name = f"k{number}"
    keys[name] = secrets.token_bytes(VAULT_KEY_BYTES)
    made[name] = datetime.now(UTC).isoformat(timespec="seconds")
    return VaultKeys(name, keys, made)


def _new_vault_ring() -> str:
    return dump_vault_keys(with_new_vault_key())


def _has_data(settings: Settings) -> bool:
    places = (settings.home / "data", settings.home / "objects")
    return any(path.is_file() for place in places for path in place.rglob("*"))


def _read_secret(path: Path) -> str:
    try:
        status = path.stat()
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        raise SettingsError(_missing(path)) from None
    except PermissionError:
        msg = f"Expected {path} to be readable by this user, got a refusal; run as its owner"
        raise SettingsError(msg) from None
    except UnicodeDecodeError:
        msg = f"Expected plain text in {path}, got other bytes; restore the file"
        raise SettingsError(msg) from None
    mode = stat.S_IMODE(status.st_mode)
    # An orchestrator mounts secrets as another owner and gives us the right to read through our group; and one that nobody may
    # write was opened to it by its owner on purpose.
    shared = status.st_uid != os.geteuid() or mode == READABLE_BY_GROUP
    if mode & (stat.S_IRWXO | (stat.S_IWGRP if shared else stat.S_IRWXG)):
        msg = f"Expected {path} to be closed to group and others, got mode {mode:04o}; run `chmod 600` on it"
        raise SettingsError(msg)
    return text


def _write_secret(path: Path, text: str) -> None:
    """Write a new file: never over an existing one, and not visible before it is whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()


def replace_secret(path: Path, text: str) -> None:
    """Replace a file of keys in one step, durably, with the rights that it had.

    Raises
    ------
    SettingsError
        If this user may not; the file is as it was.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.unlink(missing_ok=True)  # of one that was killed: the ring is changed by one at a time
        _write_like(path, draft, text)
        draft.replace(path)
    except PermissionError:
        msg = f"Expected to be allowed to replace {path} with its owner and group, got a refusal; run as its owner"
        raise SettingsError(msg) from None
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_like(former: Path, draft: Path, text: str) -> None:
    """Write a new file with owner, group and mode of another one."""
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        status = former.stat()
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(file.fileno(), status.st_uid, status.st_gid)  # or the services could not read it any more
        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
        os.fsync(file.fileno())


def _missing(path: Path) -> str:
    return (
        f"Expected a key in {path}, got no such file; place the project's keys there, or make them once: `fetalmlops up` "
        "does in an embedded system, `fetalmlops keys make` elsewhere"
    )
