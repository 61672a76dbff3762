"""The tables of docs/operations.md: settings, metrics and topics, made from the code.

``python -m fetalmlops.cli.documents docs/operations.md`` brings the tables of the document up to date.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import annotated_types
from prometheus_client import REGISTRY
from pydantic import BaseModel, SecretStr

from fetalmlops.domain.contracts.topics import TOPICS
from fetalmlops.platform.documents import fill, table
from fetalmlops.platform.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

__all__ = ["TABLES"]

_METERED = (
    "fetalmlops.listener.metrics",
    "fetalmlops.classifier.metrics",
    "fetalmlops.inference.metrics",
    "fetalmlops.gateway.metrics",
    "fetalmlops.platform.energy.metrics",
    "fetalmlops.platform.streams.worker",
)
_MIB = 1 << 20


def _settings() -> str:
    return table(("Setting", "Default", "Range", "Meaning"), _fields(Settings, ""))


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            meaning = " ".join((field.description or "").replace("``", "`").split())
            yield (f"`{prefix}{name}`", _default(field.default), _range(field), meaning)


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = json.dumps(value)
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _range(field: FieldInfo) -> str:
    choices = get_args(field.annotation)
    if get_origin(field.annotation) is tuple:
        choices = get_args(choices[0])
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices if isinstance(choice, str) and choice)
    limits = []
    for item in field.metadata:
        if isinstance(item, annotated_types.Ge):
            limits.append(f"≥ {item.ge}")
        elif isinstance(item, annotated_types.Gt):
            limits.append(f"> {item.gt}")
        elif isinstance(item, annotated_types.Le):
            limits.append(f"≤ {item.le}")
        elif isinstance(item, annotated_types.MinLen):
            limits.append(f"≥ {item.min_length} characters")
        elif isinstance(item, annotated_types.MaxLen):
            limits.append(f"≤ {item.max_length} characters")
    return ", ".join(limits)


def _metrics() -> str:
    for module in _METERED:
        import_module(module)
    rows = [
        (f"`{_series(family.name, family.type)}`", family.type, ", ".join(_labels(family.name)), family.documentation)
        for family in sorted(REGISTRY.collect(), key=lambda family: family.name)
        if family.name.startswith("fetalmlops_")
    ]
    return table(("Metric", "Type", "Labels", "Meaning"), rows)


def _series(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _labels(name: str) -> tuple[str, ...]:
    collector = REGISTRY._names_to_collectors[name]  # noqa: SLF001 - the registry has no public look-up
    return tuple(getattr(collector, "_labelnames", ()))


def _topics() -> str:
    rows = [
        (
            f"`{topic.name}`",
            topic.zone.value,
            topic.key,
            str(topic.partitions),
            "kept" if topic.retention_days is None else f"{topic.retention_days} d",
            "" if topic.retention_bytes is None else f"{topic.retention_bytes // _MIB} MiB a partition",
        )
        for topic in TOPICS
    ]
    return table(("Topic", "Zone", "Key", "Partitions", "Records stay", "At most"), rows)


TABLES = {"settings": _settings, "metrics": _metrics, "topics": _topics}
"""Name of a table in the document to what makes it."""


if __name__ == "__main__":
    for place in sys.argv[1:]:
        path = Path(place)
        path.write_text(fill(path.read_text("utf-8"), TABLES), "utf-8")
