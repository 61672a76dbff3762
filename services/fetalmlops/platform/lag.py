"""How far each stage is behind: the events of its topic that its group has not committed yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka import TopicPartition
from kafka.admin import OffsetSpec

from fetalmlops.domain.contracts.topics import FRAMES_NORMALIZED, INSTANCE_DEIDENTIFIED, INSTANCE_RECEIVED, Topic
from fetalmlops.platform.provisioning import fetch_commits, open_admin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fetalmlops.platform.settings import KafkaSettings

__all__ = ["STAGE_INPUTS", "fetch_lags"]

STAGE_INPUTS: Mapping[str, Topic] = {
    "anonymizer": INSTANCE_RECEIVED,
    "normalizer": INSTANCE_DEIDENTIFIED,
    "classifier": FRAMES_NORMALIZED,
}
"""Consumer group, which is the stage's name, to the topic that it works on."""


def fetch_lags(
    kafka: KafkaSettings, inputs: Mapping[str, Topic] = STAGE_INPUTS, *, timeout_ms: int = 10_000
) -> dict[str, int]:
    """Return group to the count of events that it has not committed.

    Parameters
    ----------
    kafka
        The broker.
    inputs
        Group to topic. A partition without a commit counts from its beginning.
    timeout_ms
        How long to wait for the broker.

    Raises
    ------
    TransientError
        If the broker is away.
    """
    with open_admin(kafka, timeout_ms=timeout_ms) as admin:
        known = {found["name"]: len(found["partitions"]) for found in admin.describe_topics()}
        partitions = {
            group: [TopicPartition(topic.name, number) for number in range(known.get(topic.name, 0))]
            for group, topic in inputs.items()
        }
        every = [part for parts in partitions.values() for part in parts]
        ends = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.LATEST))
        begins = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.EARLIEST))
        committed = fetch_commits(admin, list(inputs))
    lags = {}
    for group, parts in partitions.items():
        done = {part: entry.offset for part, entry in committed.get(group, {}).items()}
        lags[group] = sum(ends[part].offset - max(done.get(part, -1), begins[part].offset) for part in parts)
    return lags
