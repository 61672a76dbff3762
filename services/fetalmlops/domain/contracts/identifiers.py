"""Identifiers: keyed pseudonyms, content ids and event ids.

Everything that leaves the phi zone is an HMAC under the project's key or a digest of a clean object.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

from fetalmlops.domain.errors import SettingsError

__all__ = ["KEY_BYTES", "PseudonymKey", "event_id"]

KEY_BYTES = 32
"""Length of a project's pseudonym key in bytes."""

_PSEUDONYM_HEX = 32


@dataclass(frozen=True)
class PseudonymKey:
    """The pseudonym key of one project, from which a subkey per kind of identifier is derived.

    Parameters
    ----------
    project
        Id of the project, part of every subkey: two projects never share a pseudonym.
    secret
        32 random bytes, never rotated in place (another key is another project).

    Raises
    ------
    SettingsError
        If the secret has another length.

    Examples
    --------
    >>> key = PseudonymKey("demo", bytes(32))
    >>> key.study("1.2.3") == key.study("1.2.3"), key.study("1.2.3") == key.series("1.2.3")
    (True, False)
    """

    project: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            msg = (
                f"Expected a pseudonym key of {KEY_BYTES} bytes, got {len(self.secret)}; restore the project's key file"
            )
            raise SettingsError(msg)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name this key without revealing it."""
        return self._digest("fingerprint", b"")[:16]

    def hasher(self, kind: str) -> hmac.HMAC:
        """Return a running HMAC-SHA-256 under the subkey of `kind`, for values too large to hold."""
        subkey = hmac.digest(self.secret, f"fetalmlops/1/{self.project}/{kind}".encode(), "sha256")
        return hmac.new(subkey, digestmod="sha256")

    def content_hasher(self, transfer_syntax_uid: str) -> hmac.HMAC:
        """Return the running HMAC of a content id: feed it the dataset's bytes, then take 32 hexadecimal digits."""
        hasher = self.hasher("content")
        hasher.update(transfer_syntax_uid.encode() + b"\0")
        return hasher

    def content(self, transfer_syntax_uid: str, dataset: bytes) -> str:
        """Return the content id of an encoded dataset: 32 hexadecimal digits."""
        hasher = self.content_hasher(transfer_syntax_uid)
        hasher.update(dataset)
        return hasher.hexdigest()[:_PSEUDONYM_HEX]

    def patient(self, patient_id: str, issuer: str) -> str:
        """Return the pseudonym of a patient id within its issuer."""
        return self._pseudonym("patient", patient_id, issuer)

    def study(self, uid: str) -> str:
        """Return the pseudonym of a Study Instance UID."""
        return self._pseudonym("study", uid)

    def series(self, uid: str) -> str:
        """Return the pseudonym of a Series Instance UID."""
        return self._pseudonym("series", uid)

    def instance(self, uid: str) -> str:
        """Return the pseudonym of a SOP Instance UID."""
        return self._pseudonym("instance", uid)

    def scanner(self, manufacturer: str, model: str, serial: str, software: str) -> str:
        """Return the keyed identity of a scanner."""
        return self._pseudonym("scanner", manufacturer, model, serial, software)

    def software(self, manufacturer: str, model: str, software: str) -> str:
        """Return the keyed identity of a scanner's software: the same for all scanners that run it."""
        return self._pseudonym("software", manufacturer, model, software)

    def uid(self, uid: str) -> str:
        """Return the keyed replacement of a UID: ``2.25.`` and the decimal form of a version 8 UUID (at most 44 characters)."""
        return f"2.25.{_uuid8(bytes.fromhex(self._digest('uid', uid.encode()))).int}"

    def _pseudonym(self, kind: str, *parts: str) -> str:
        return self._digest(kind, "\0".join(part.strip() for part in parts).encode())[:_PSEUDONYM_HEX]

    def _digest(self, kind: str, value: bytes) -> str:
        hasher = self.hasher(kind)
        hasher.update(value)
        return hasher.hexdigest()


def event_id(content_id: str, stage: str, versions: Iterable[str]) -> str:
    """Return the CloudEvents id of a stage's event: equal when, and only when, the output must be equal.

    Parameters
    ----------
    content_id
        Content id of the instance.
    stage
        Name of the stage.
    versions
        Every version that decides the output, in a fixed order.

    Examples
    --------
    >>> event_id("00" * 16, "normalizer", ["pipeline-1"])
    '96c5a516-bafe-8a00-8879-fda4b0e55166'
    """
    text = "\0".join([content_id, stage, *versions])
    return str(_uuid8(hashlib.sha256(text.encode()).digest()))


def _uuid8(digest: bytes) -> uuid.UUID:
    octets = bytearray(digest[:16])
    octets[6] = (octets[6] & 0x0F) | 0x80
    octets[8] = (octets[8] & 0x3F) | 0x80
    return uuid.UUID(bytes=bytes(octets))
