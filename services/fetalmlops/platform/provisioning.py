"""Topics at the broker: made as `domain/contracts/topics.py` says, and changed where they differ. Harmless to repeat."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from fetalmlops.domain.contracts.topics import TOPICS, Topic
from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.bus import kafka_python_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kafka import TopicPartition
    from kafka.structs import OffsetAndMetadata

    from fetalmlops.platform.settings import KafkaSettings

__all__ = ["broker_answers", "fetch_commits", "open_admin", "provision_topics", "topic_options"]

_TIMEOUT_MS = 10_000
_COORDINATOR_S = 10.0
_ADMIN = "fetalmlops-admin"

# Retention removes whole segments: with Kafka's 1 GiB a partition would hold twice what its topic allows.
_SEGMENT_SHARE = 8


@contextlib.contextmanager
def open_admin(kafka: KafkaSettings, *, timeout_ms: int = _TIMEOUT_MS) -> Iterator[KafkaAdminClient]:
    """Connect an administration client.

    Raises
    ------
    TransientError
        If the broker is away, or fails a request made in the ``with`` block.
    """
    client = None
    try:
        client = KafkaAdminClient(
            **kafka_python_options(kafka),
            client_id=_ADMIN,
            request_timeout_ms=timeout_ms,
            bootstrap_timeout_ms=timeout_ms,
        )
        yield client
    except (KafkaError, OSError) as error:
        msg = f"Expected the broker to answer, got {type(error).__name__}; check that it runs and the kafka settings"
        raise TransientError(msg, dependency="broker", everyone=True) from error
    finally:
        if client is not None:
            client.close()


def broker_answers(kafka: KafkaSettings, *, timeout_ms: int = 1000) -> bool:
    """Return whether the broker and its controller serve requests."""
    try:
        with open_admin(kafka, timeout_ms=timeout_ms) as admin:
            return bool(admin.describe_cluster()["brokers"])
    except TransientError:
        return False


def fetch_commits(admin: KafkaAdminClient, groups: Sequence[str]) -> dict[str, dict[TopicPartition, OffsetAndMetadata]]:
    """Return group to what it has committed.

    The groups' coordinator needs a moment when it is asked for the first time in a broker's life, and after a restart.

    Raises
    ------
    KafkaError
        If the broker refuses, or has no coordinator within 10 s.
    """
    deadline = time.monotonic() + _COORDINATOR_S
    while True:
        try:
            found: dict[str, dict[TopicPartition, OffsetAndMetadata]] = admin.list_group_offsets(list(groups))
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return found


def topic_options(topic: Topic, kafka: KafkaSettings) -> dict[str, str]:
    """Return the broker's settings of a topic.

    Examples
    --------
    >>> from fetalmlops.domain.contracts.topics import AUDIT_RECORDED
    >>> from fetalmlops.platform.settings import KafkaSettings
    >>> topic_options(AUDIT_RECORDED, KafkaSettings())["retention.ms"]
    '-1'
    """
    options = {
        "cleanup.policy": "delete",
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": str(-1 if topic.retention_bytes is None else topic.retention_bytes),
        "min.insync.replicas": str(min(kafka.min_insync_replicas, kafka.replication_factor)),
    }
    if topic.retention_bytes is not None:
        options["segment.bytes"] = str(topic.retention_bytes // _SEGMENT_SHARE)
    return options


def provision_topics(kafka: KafkaSettings, topics: Sequence[Topic] = TOPICS) -> list[str]:
    """Make the topics, and bring those that exist to their settings.

    Parameters
    ----------
    kafka
        The broker, with the replication of new topics.
    topics
        Which; default all.

    Returns
    -------
    list of str
        What was changed, one line each; empty if all was as wanted.

    Raises
    ------
    SettingsError
        If a topic has more partitions than wanted: they cannot be taken away, and keys would move.
    TransientError
        If the broker is away or refuses.
    """
    with open_admin(kafka) as admin:
        existing = {found["name"]: len(found["partitions"]) for found in admin.describe_topics()}
        changes = _create(admin, kafka, [topic for topic in topics if topic.name not in existing])
        known = [topic for topic in topics if topic.name in existing]
        changes += _add_partitions(admin, known, existing)
        changes += _alter(admin, kafka, known)
        # The first question makes the topic of the groups: better now than by every service at once.
        fetch_commits(admin, [_ADMIN])
    return changes


def _create(admin: KafkaAdminClient, kafka: KafkaSettings, topics: Sequence[Topic]) -> list[str]:
    if not topics:
        return []
    wanted = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": kafka.replication_factor,
            "configs": topic_options(topic, kafka),
        }
        for topic in topics
    }
    # Two copies may provision at once: the other one's topic has the same settings.
    with contextlib.suppress(TopicAlreadyExistsError):
        admin.create_topics(wanted)
    admin.wait_for_topics(list(wanted), timeout_ms=_TIMEOUT_MS)
    return [f"{topic.name}: made with {topic.partitions} partitions" for topic in topics]


def _add_partitions(admin: KafkaAdminClient, topics: Sequence[Topic], existing: dict[str, int]) -> list[str]:
    for topic in topics:
        if existing[topic.name] > topic.partitions:
            msg = (
                f"Expected at most {topic.partitions} partitions in {topic.name}, got {existing[topic.name]}; "
                "use another broker, or make the topic anew"
            )
            raise SettingsError(msg)
    growing = {topic.name: topic.partitions for topic in topics if existing[topic.name] < topic.partitions}
    if growing:
        admin.create_partitions(growing)
        admin.wait_for_topics(list(growing), timeout_ms=_TIMEOUT_MS)
    return [f"{name}: grown to {count} partitions" for name, count in growing.items()]


def _alter(admin: KafkaAdminClient, kafka: KafkaSettings, topics: Sequence[Topic]) -> list[str]:
    if not topics:
        return []
    found: dict[str, dict[str, dict[str, Any]]] = admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics], config_filter="all"
    )["topic"]
    resources = []
    for topic in topics:
        current = found[topic.name]
        wanted = topic_options(topic, kafka)
        if differing := {name: value for name, value in wanted.items() if current[name]["value"] != value}:
            resources.append(ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=differing))
    if not resources:
        return []
    answers: dict[str, str] = admin.alter_configs(resources)["topic"]
    refused = sorted(name for name, answer in answers.items() if answer != "OK")
    if refused:
        msg = f"Expected the broker to change {', '.join(refused)}, got a refusal; check the kafka user's rights"
        raise TransientError(msg, dependency="broker", everyone=True)
    return [f"{resource.name}: {', '.join(sorted(resource.configs))} changed" for resource in resources]
