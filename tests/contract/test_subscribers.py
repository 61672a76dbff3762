"""The examples for subscribers, run as a reader would run them, against a real broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path
from types import ModuleType

import pytest

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.settings import Settings

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("subscribe_*.py"))
STOP_AFTER_S = "4"


def publish(settings: Settings, results: list[tuple[str, object]]) -> None:
    async def send() -> None:
        publisher = Publisher(settings.kafka, Health("test"))
        for identity, result in results:
            envelope = Envelope(id=identity, type=INSTANCE_CLASSIFIED.name, source="test", time_ms=1)
            await publisher.publish(INSTANCE_CLASSIFIED, result.context.study, envelope, result)  # type: ignore[attr-defined]
        await publisher.stop()

    asyncio.run(send())


def run(example: Path, settings: Settings, group: str) -> list[dict[str, str]]:
    command = [
        sys.executable,
        example,
        settings.kafka.bootstrap_servers,
        "--group",
        group,
        "--stop-after",
        STOP_AFTER_S,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_each_result_is_seen_once_and_what_is_superseded_is_withdrawn(
    example: Path, embedded: Settings, samples: ModuleType
) -> None:
    content = uuid.uuid4().hex
    first, second, late, shadow = (event_id(content, "classifier", [version]) for version in "1234")
    result = samples.classified(content_id=content)
    publish(
        embedded,
        [
            (first, result),
            (first, result),  # delivered twice
            (second, samples.classified(content_id=content, supersedes=first)),
            (event_id(content, "classifier", ["5"]), samples.classified(content_id=content, supersedes=late)),
            (late, result),  # after the one that replaces it
            (shadow, samples.classified(content_id=content, role=Role.SHADOW)),
        ],
    )
    group = f"test-{uuid.uuid4().hex}"
    seen = [item for item in run(example, embedded, group) if item["content_id"] == content]
    assert [(item["ce_id"], item["supersedes"]) for item in seen] == [
        (first, None),
        (second, first),
        (event_id(content, "classifier", ["5"]), late),
    ]

    # It goes on where it was: what it has committed does not come again.
    assert [item for item in run(example, embedded, group) if item["content_id"] == content] == []


def test_there_are_examples() -> None:
    assert [path.stem for path in EXAMPLES] == ["subscribe_aiokafka", "subscribe_kafka_python"]
