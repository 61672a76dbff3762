"""What both ends of a gRPC connection share: message sizes, metadata keys, credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from fetalmlops.platform.settings import TlsSettings

__all__ = ["MESSAGE_OPTIONS", "PUSHBACK_KEY", "REASON_KEY", "channel_credentials", "server_credentials"]

PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Trailing metadata: when to try again, in milliseconds (gRFC A6)."""
REASON_KEY: Final = "fetalmlops-reason"
"""Trailing metadata: short lower-case reason of a refusal."""

_MAX_MESSAGE: Final = 8 * 1024 * 1024

MESSAGE_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
)
"""Channel options: 16 frames of 512 x 512 pixels are 4 MiB, the default limit, without their envelope."""


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
