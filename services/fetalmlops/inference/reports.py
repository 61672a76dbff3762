"""What several processes say of themselves, as one."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["join_facts", "join_metrics"]

_OWN: Final = frozenset({"process", "pid", "version", "ready", "waiting", "last_event_ms", "port", "health_port"})
_ANSWER_S: Final = 2.0


def join_facts(reports: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the processes report, as the facts of one.

    Parameters
    ----------
    reports
        Number of the process to its report; empty for one that does not answer.

    Returns
    -------
    dict
        Each fact that those who know it agree on, None where they differ; and ``processes``, which says of each what it is at.

    Examples
    --------
    >>> facts = join_facts({1: {"ready": True, "pid": 7, "bundle": "a 1"}, 2: {}})
    >>> facts["bundle"], facts["processes"]["2"]
    ('a 1', {'ready': False})
    """
    names = sorted({name for report in reports.values() for name in report} - _OWN)
    facts = {name: _agreed(report.get(name) for report in reports.values()) for name in names}
    own = {
        str(number): {
            "ready": bool(report.get("ready")),
            **{name: report[name] for name in ("pid", "health_port", "waiting", *names) if name in report},
        }
        for number, report in reports.items()
    }
    return {**facts, "processes": own}


def _agreed(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return known[0] if known and all(value == known[0] for value in known) else None


def join_metrics(ports: Mapping[int, int]) -> bytes:
    """Return the metrics of processes in Prometheus' text format, each series with the label ``process``.

    Parameters
    ----------
    ports
        Number of the process to the port of its health endpoint; one that does not answer is left out.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(ports))
    return generate_latest(registry)


class _Collected:
    """A collector of what other processes' endpoints say."""

    def __init__(self, ports: Mapping[int, int]) -> None:
        self._ports = ports

    def collect(self) -> Iterator[Metric]:
        """Yield each family once, with the series of all processes."""
        families: dict[str, Metric] = {}
        for number, port in self._ports.items():
            for family in text_string_to_metric_families(_fetch(port)):
                joined = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                joined.samples += [
                    sample._replace(labels={**sample.labels, "process": str(number)}) for sample in family.samples
                ]
        yield from families.values()


def _fetch(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
