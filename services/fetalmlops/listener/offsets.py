"""Offsets at the broker, for the sweep: one connection that is kept while it answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kafka import TopicPartition
from kafka.admin import OffsetSpec

from fetalmlops.platform.provisioning import open_admin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kafka.admin import KafkaAdminClient

    from fetalmlops.platform.settings import KafkaSettings

__all__ = ["BrokerOffsets", "open_offsets"]

_TIMEOUT_MS = 5_000


class BrokerOffsets:
    """Asks the broker for offsets.

    Parameters
    ----------
    admin
        An open connection.
    """

    def __init__(self, admin: KafkaAdminClient) -> None:
        self._admin = admin

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offsets of the next records."""
        return self._offsets(topic, OffsetSpec.LATEST)

    def passed(self, topic: str, group: str) -> dict[int, int]:
        """Return the offsets before which no record waits for a group: its commits, or where the topic begins."""
        passed = self._offsets(topic, OffsetSpec.EARLIEST)
        for part, entry in self._admin.list_group_offsets([group]).get(group, {}).items():
            if part.topic == topic and part.partition in passed:
                passed[part.partition] = max(passed[part.partition], entry.offset)
        return passed

    def _offsets(self, topic: str, spec: OffsetSpec) -> dict[int, int]:
        found = self._admin.describe_topics([topic])
        parts = [TopicPartition(topic, number) for item in found for number in range(len(item["partitions"]))]
        offsets = self._admin.list_partition_offsets(dict.fromkeys(parts, spec)) if parts else {}
        return {part.partition: entry.offset for part, entry in offsets.items()}


@contextmanager
def open_offsets(kafka: KafkaSettings) -> Iterator[BrokerOffsets]:
    """Connect to the broker.

    Raises
    ------
    TransientError
        If the broker is away, or fails a request made in the ``with`` block.
    """
    with open_admin(kafka, timeout_ms=_TIMEOUT_MS) as admin:
        yield BrokerOffsets(admin)
