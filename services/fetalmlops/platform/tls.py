"""TLS of our clients: contexts from the settings."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from fetalmlops.platform.settings import TlsSettings

__all__ = ["client_ssl_context"]


def client_ssl_context(tls: TlsSettings, setting: str = "tls") -> ssl.SSLContext:
    """Return the context of a TLS client: it verifies the server, and shows our certificate where there is one.

    Parameters
    ----------
    tls
        Authorities and certificate.
    setting
        Name of the settings for the error, such as ``kafka.tls``.

    Raises
    ------
    SettingsError
        If a file cannot be read, or is not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
        if tls.certificate_file:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except OSError as error:
        msg = f"Expected the files of {setting} to be readable PEM files, got {type(error).__name__}; mend them"
        raise SettingsError(msg) from None
    return context
