"""The key-value server (Valkey): connections as the settings say, and errors in our terms."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as ValkeyConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as ValkeyTimeoutError
from redis.retry import Retry

from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.tls import client_ssl_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.platform.settings import Settings

__all__ = ["open_valkey", "open_valkey_blocking", "valkey_errors"]

_TIMEOUT_S = 5.0


def open_valkey(settings: Settings) -> redis.asyncio.Redis:
    """Return an asynchronous client; it connects at its first command and reconnects by itself.

    Raises
    ------
    SettingsError
        If a file of ``valkey.tls`` cannot be read.
    """
    return redis.asyncio.Redis(**_options(settings), retry=AsyncRetry(ExponentialBackoff(cap=1.0), 2))


def open_valkey_blocking(settings: Settings) -> redis.Redis:
    """Return a blocking client, for threads and commands. Raises as `open_valkey`."""
    return redis.Redis(**_options(settings), retry=Retry(ExponentialBackoff(cap=1.0), 2))


@contextmanager
def valkey_errors() -> Iterator[None]:
    """Turn the client's errors into `TransientError` with dependency ``valkey``: away for all events."""
    try:
        yield
    except (ValkeyConnectionError, ValkeyTimeoutError, OSError) as error:
        msg = f"Expected an answer of Valkey, got {type(error).__name__}; check that it runs and the valkey settings"
        raise TransientError(msg, dependency="valkey", everyone=True) from error
    except RedisError as error:
        msg = (
            f"Expected Valkey to carry out a command, got {type(error).__name__}; check its version, memory and the user's "
            "rights"
        )
        raise TransientError(msg, dependency="valkey", everyone=True) from error


def _options(settings: Settings) -> dict[str, Any]:
    valkey = settings.valkey
    tls: dict[str, Any] = {}
    if valkey.tls.enabled:
        client_ssl_context(valkey.tls, "valkey.tls")  # the client finds a wrong file only when it connects
        tls = {
            "ssl": True,
            "ssl_ca_certs": str(valkey.tls.ca_file) if valkey.tls.ca_file else None,
            "ssl_certfile": str(valkey.tls.certificate_file) if valkey.tls.certificate_file else None,
            "ssl_keyfile": str(valkey.tls.key_file) if valkey.tls.key_file else None,
        }
    return {
        "host": valkey.host,
        "port": valkey.port,
        "db": valkey.database,
        "username": valkey.username or None,
        "password": valkey.password.get_secret_value() or None,
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
        "health_check_interval": 30,
        **tls,
    }
