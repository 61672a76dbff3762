"""What both ends of a gRPC connection share: message sizes, metadata keys, credentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fetalmlops.platform.settings import TlsSettings

__all__ = [
    "ALONE",
    "MESSAGE_OPTIONS",
    "NO_MODEL_REASON",
    "PIPELINE_REASON",
    "PROCESS_KEY",
    "PUSHBACK_KEY",
    "REASON_KEY",
    "ROLE_REASON",
    "Place",
    "answering_place",
    "channel_credentials",
    "open_channel",
    "server_credentials",
]

PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Trailing metadata: when to try again, in milliseconds (gRFC A6)."""
REASON_KEY: Final = "fetalmlops-reason"
"""Trailing metadata: short lower-case reason of a refusal."""
PIPELINE_REASON: Final = "pipeline"
"""Reason of a refusal: the frames are of another normalisation pipeline than the bundle's."""

ROLE_REASON: Final = "role"
"""Reason of a refusal: no model serves in the role that was asked for."""
NO_MODEL_REASON: Final = "no-model"
"""Reason of a refusal: this process serves no model yet, or none any more; another one may."""
PROCESS_KEY: Final = "fetalmlops-process"
"""Trailing metadata: which process of the service answers, and of how many; see `Place`."""

_MAX_MESSAGE: Final = 8 * 1024 * 1024

MESSAGE_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
)
"""Channel options: 16 frames of 512 x 512 pixels are 4 MiB, the default limit, without their envelope."""

_CLIENT_OPTIONS: Final = (
    *MESSAGE_OPTIONS,
    # Each channel has a connection of its own, and so a process of its own.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that comes back is found within a second; the default back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def open_channel(target: str, tls: TlsSettings | None) -> Any:
    """Return a connection to a server, with TLS where it is enabled; raises as `channel_credentials`."""
    if tls is not None and tls.enabled:
        return grpc.aio.secure_channel(target, channel_credentials(tls), options=_CLIENT_OPTIONS)
    return grpc.aio.insecure_channel(target, options=_CLIENT_OPTIONS)


@dataclass(frozen=True)
class Place:
    """Which process of a service answers.

    Parameters
    ----------
    number
        Its number, from 1.
    count
        How many processes share the port.

    Examples
    --------
    >>> str(Place(1, 2)), Place.parse("2/4"), Place.parse("of another service")
    ('1/2', Place(number=2, count=4), Place(number=1, count=1))
    """

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what `str` wrote; the only process where it is nothing of the kind."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            return cls()
        return cls(int(number), int(count))


ALONE: Final = Place()
"""The only process of a service."""


def answering_place(metadata: Iterable[tuple[str, Any]] | None) -> Place | None:
    """Return which process sent this trailing metadata; None where there is none, as when no process answered."""
    found = [str(value) for key, value in metadata or () if key == PROCESS_KEY]
    return Place.parse(found[0]) if found else None


def server_credentials(tls: TlsSettings) -> Any:
    """Return credentials of a server.

    Raises
    ------
    SettingsError
        If the certificate, its key, or the authorities that client certificates must come from cannot be read.
    """
    if tls.certificate_file is None or tls.key_file is None:
        msg = "Expected inference.tls.certificate_file and key_file of a server with TLS, got none; set both"
        raise SettingsError(msg)
    if tls.require_client_certificate and tls.ca_file is None:
        msg = "Expected inference.tls.ca_file where client certificates are required, got none; set it"
        raise SettingsError(msg)
    return grpc.ssl_server_credentials(
        [(_read(tls.key_file), _read(tls.certificate_file))],
        root_certificates=_read(tls.ca_file),
        require_client_auth=tls.require_client_certificate,
    )


def channel_credentials(tls: TlsSettings, setting: str = "inference.tls") -> Any:
    """Return credentials of a client, with its own certificate where one is set.

    Parameters
    ----------
    tls
        Authorities and certificate.
    setting
        Name of the settings for the error.

    Raises
    ------
    SettingsError
        If a file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_file, setting),
        private_key=_read(tls.key_file, setting),
        certificate_chain=_read(tls.certificate_file, setting),
    )


def _read(path: Path | None, setting: str = "inference.tls") -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"Expected a readable PEM file at {path}, got {error.strerror}; mend {setting}"
        raise SettingsError(msg) from None
