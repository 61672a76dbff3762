"""Topics at a real broker: made once, changed where they differ, never shrunk; and the lag of their readers."""

from __future__ import annotations

import dataclasses
import uuid

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata

from fetalmlops.domain.contracts.topics import INSTANCE_RECEIVED, Topic
from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.lag import fetch_lags
from fetalmlops.platform.provisioning import broker_answers, open_admin, provision_topics, topic_options
from fetalmlops.platform.settings import KafkaSettings, Settings


@pytest.fixture
def topic() -> Topic:
    return dataclasses.replace(INSTANCE_RECEIVED, name=f"test.{uuid.uuid4().hex}.v1", partitions=2, retention_days=3)


def found_options(settings: Settings, topic: Topic) -> dict[str, str]:
    with open_admin(settings.kafka) as admin:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)], config_filter="all")
    return {name: entry["value"] for name, entry in found["topic"][topic.name].items()}


def test_a_topic_is_made_once(embedded: Settings, topic: Topic) -> None:
    assert provision_topics(embedded.kafka, [topic]) == [f"{topic.name}: made with 2 partitions"]
    assert provision_topics(embedded.kafka, [topic]) == []
    assert topic_options(topic, embedded.kafka).items() <= found_options(embedded, topic).items()


def test_an_existing_topic_is_brought_to_its_settings(embedded: Settings, topic: Topic) -> None:
    provision_topics(embedded.kafka, [topic])
    wanted = dataclasses.replace(topic, retention_days=5, partitions=4)

    changes = provision_topics(embedded.kafka, [wanted])

    assert changes == [f"{topic.name}: grown to 4 partitions", f"{topic.name}: retention.ms changed"]
    assert found_options(embedded, topic)["retention.ms"] == str(5 * 86_400_000)
    assert provision_topics(embedded.kafka, [wanted]) == []


def test_a_topic_is_not_shrunk(embedded: Settings, topic: Topic) -> None:
    provision_topics(embedded.kafka, [topic])

    with pytest.raises(SettingsError, match="Expected at most 1 partitions"):
        provision_topics(embedded.kafka, [dataclasses.replace(topic, partitions=1)])


def test_a_broker_that_is_away_is_said_so() -> None:
    away = KafkaSettings(bootstrap_servers="127.0.0.1:1")

    assert not broker_answers(away)
    with pytest.raises(TransientError, match="Expected the broker to answer"), open_admin(away, timeout_ms=500):
        pass


def test_lag_counts_what_a_group_has_not_committed(embedded: Settings, topic: Topic) -> None:
    provision_topics(embedded.kafka, [topic])
    group = f"test-{uuid.uuid4().hex}"
    assert fetch_lags(embedded.kafka, {group: topic}) == {group: 0}

    servers = embedded.kafka.bootstrap_servers
    with KafkaProducer(bootstrap_servers=servers) as producer:
        for partition, count in ((0, 5), (1, 2)):
            for _ in range(count):
                producer.send(topic.name, b"value", partition=partition)
        producer.flush()
    assert fetch_lags(embedded.kafka, {group: topic}) == {group: 7}

    consumer = KafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    try:
        part = TopicPartition(topic.name, 0)
        consumer.assign([part])
        consumer.commit({part: OffsetAndMetadata(3, "", -1)})
    finally:
        consumer.close()
    assert fetch_lags(embedded.kafka, {group: topic}) == {group: 4}
