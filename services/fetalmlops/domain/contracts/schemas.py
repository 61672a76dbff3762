"""JSON Schemas of the events and the AsyncAPI document of the topics, generated from the types."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from fetalmlops.domain.contracts.topics import TOPICS, Topic

__all__ = ["schema_files"]

_HEADERS: dict[str, tuple[str, str, bool]] = {
    "ce_specversion": ("string", "CloudEvents version: 1.0", True),
    "ce_id": ("string", "UUID of the event: the same output has the same id, and the first one wins", True),
    "ce_type": ("string", "Event type: the topic's name", True),
    "ce_source": ("string", "The process that made the event", True),
    "ce_time": ("string", "Processing time, RFC 3339", True),
    "ce_subject": ("string", "Instance pseudonym, or the key", False),
    "content-type": ("string", "application/json", True),
    "traceparent": ("string", "W3C trace context", False),
    "tracestate": ("string", "W3C trace context", False),
    "ce_replayof": ("string", "Replays only: the quarantine entry", False),
    "ce_replaystage": ("string", "Replays only: the one stage that acts, others skip the record", False),
    "ce_replaynumber": ("string", "Replays only: 1 for the first", False),
}


def schema_files(version: str) -> dict[str, str]:
    """Return the text of every generated file by name: ``<topic>.json`` and ``asyncapi.yaml``.

    Parameters
    ----------
    version
        Version of the package, for the AsyncAPI document.
    """
    files = {f"{topic.name}.json": _dump(_schema(topic)) for topic in TOPICS}
    # JSON is YAML: one deterministic writer serves both, and readers of YAML lose nothing.
    return {**files, "asyncapi.yaml": _dump(_asyncapi(version))}


def _schema(topic: Topic) -> dict[str, Any]:
    (reference,), definitions = msgspec.json.schema_components([topic.event], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:fetalmlops:{topic.name}",
        "title": topic.name,
        **reference,
        "$defs": {name: _opened(definition) for name, definition in sorted(definitions.items())},
    }


def _opened(definition: dict[str, Any]) -> dict[str, Any]:
    """Turn an open vocabulary into examples: a word of a later version is no error."""
    definition = {**definition, "description": " ".join(definition.get("description", "").split())}
    if "enum" in definition and "unknown" in definition["enum"]:
        known = [word for word in definition["enum"] if word != "unknown"]
        return {key: value for key, value in definition.items() if key != "enum"} | {
            "type": "string",
            "examples": known,
        }
    return definition


def _asyncapi(version: str) -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "FetalMLOps events",
            "version": version,
            "description": "CloudEvents 1.0 in binary mode on Kafka: attributes as record headers, data as JSON values.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {
            f"receive.{topic.name}": {"action": "receive", "channel": {"$ref": f"#/channels/{topic.name}"}}
            for topic in TOPICS
        },
        "components": {"messageTraits": {"cloudevent": {"headers": _headers_schema()}}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": f"Zone {topic.zone}; key: {topic.key}.",
        "messages": {
            topic.event.__name__: {
                "name": topic.event.__name__,
                "contentType": "application/json",
                "traits": [{"$ref": "#/components/messageTraits/cloudevent"}],
                "payload": {"$ref": f"./{topic.name}.json"},
            }
        },
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {"cleanup.policy": ["delete"], "retention.ms": topic.retention_ms},
            }
        },
    }


def _headers_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name, (_, _, required) in _HEADERS.items() if required],
        "properties": {name: {"type": kind, "description": text} for name, (kind, text, _) in _HEADERS.items()},
    }


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
