"""The servers of the shared fixture answer as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fetalmlops.domain.contracts.topics import TOPICS
from fetalmlops.platform.dicom.sources import read_sources
from fetalmlops.platform.keyvalue import open_valkey_blocking
from fetalmlops.platform.provisioning import open_admin

if TYPE_CHECKING:
    from fetalmlops.platform.settings import Settings


def test_the_broker_has_every_topic(embedded: Settings) -> None:
    with open_admin(embedded.kafka) as admin:
        found = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}

    assert {topic.name: topic.partitions for topic in TOPICS}.items() <= found.items()


def test_the_simulator_may_send(embedded: Settings) -> None:
    assert read_sources(embedded.sources_file).match("FETALSIM", "127.0.0.1")


def test_valkey_syncs_every_write(embedded: Settings) -> None:
    with open_valkey_blocking(embedded) as client:
        policy = client.config_get("append*")

    assert policy["appendonly"] == "yes"
    assert policy["appendfsync"] == "always"


def test_valkey_refuses_those_without_the_password(embedded: Settings) -> None:
    once = Retry(NoBackoff(), 0)
    with (
        redis.Redis(host="127.0.0.1", port=embedded.valkey.port, retry=once) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
