"""Whether the processes of the embedded system are able to work, and what keeps those that are not."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.embedded.programs import BROKER, VALKEY, health_name
from fetalmlops.platform.keyvalue import open_valkey_blocking, valkey_errors
from fetalmlops.platform.provisioning import broker_answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fetalmlops.platform.settings import Settings

__all__ = ["Readiness", "fetch_readiness"]

_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Readiness:
    """What a process says of itself.

    Parameters
    ----------
    ready
        Whether it is able to work.
    waiting
        What it waits for.
    last_event_ms
        When it last handled an event, in ms since 1970; None for never, or not known.
    report
        The whole of its report.
    """

    ready: bool
    waiting: tuple[str, ...] = ()
    last_event_ms: int | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


def fetch_readiness(name: str, settings: Settings, ports: Mapping[str, int]) -> Readiness:
    """Ask a process whether it is able to work; one that does not answer is not."""
    if name == BROKER:
        return Readiness(broker_answers(settings.kafka))
    if name == VALKEY:
        return Readiness(_valkey_answers(settings))
    return _ask(f"http://127.0.0.1:{ports[health_name(name)]}/readyz")


def _valkey_answers(settings: Settings) -> bool:
    try:
        with valkey_errors(), open_valkey_blocking(settings) as client:
            return bool(client.ping())
    except TransientError:
        return False


def _ask(url: str) -> Readiness:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return Readiness(ready=False)
    try:
        report = json.loads(body)
        waiting = tuple(str(item["for"]) for item in report["waiting"])
        return Readiness(bool(report["ready"]), waiting, report["last_event_ms"], report)
    except (ValueError, KeyError, TypeError):
        return Readiness(ready=False)
