"""How far each stage is behind: the events of its topic that its group has not committed yet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError

from fetalmlops.domain.contracts.topics import FRAMES_NORMALIZED, INSTANCE_DEIDENTIFIED, INSTANCE_RECEIVED, Topic
from fetalmlops.platform.provisioning import open_admin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kafka.admin import KafkaAdminClient
    from kafka.structs import OffsetAndMetadata

    from fetalmlops.platform.settings import KafkaSettings

__all__ = ["STAGE_INPUTS", "fetch_lags"]

_COORDINATOR_S = 5.0

STAGE_INPUTS: Mapping[str, Topic] = {
    "anonymizer": INSTANCE_RECEIVED,
    "normalizer": INSTANCE_DEIDENTIFIED,
    "classifier": FRAMES_NORMALIZED,
}
"""Consumer group, which is the stage's name, to the topic that it works on."""


def fetch_lags(kafka: KafkaSettings, inputs: Mapping[str, Topic] = STAGE_INPUTS) -> dict[str, int]:
    """Return group to the count of events that it has not committed.

    Parameters
    ----------
    kafka
        The broker.
    inputs
        Group to topic. A partition without a commit counts from its beginning.

    Raises
    ------
    TransientError
        If the broker is away.
    """
    with open_admin(kafka) as admin:
        known = {found["name"]: len(found["partitions"]) for found in admin.describe_topics()}
        partitions = {
            group: [TopicPartition(topic.name, number) for number in range(known.get(topic.name, 0))]
            for group, topic in inputs.items()
        }
        every = [part for parts in partitions.values() for part in parts]
        ends = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.LATEST))
        begins = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.EARLIEST))
        committed = _committed(admin, list(inputs))
    lags = {}
    for group, parts in partitions.items():
        done = {part: entry.offset for part, entry in committed.get(group, {}).items()}
        lags[group] = sum(ends[part].offset - max(done.get(part, -1), begins[part].offset) for part in parts)
    return lags


def _committed(admin: KafkaAdminClient, groups: list[str]) -> dict[str, dict[TopicPartition, OffsetAndMetadata]]:
    """Ask the groups' coordinator, which needs a moment when it is asked for the first time or after a restart."""
    deadline = time.monotonic() + _COORDINATOR_S
    while True:
        try:
            found: dict[str, dict[TopicPartition, OffsetAndMetadata]] = admin.list_group_offsets(groups)
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return found
