"""What the embedded servers are configured with."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from fetalmlops.platform.embedded import EmbeddedError, kafka, valkey
from fetalmlops.platform.embedded.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "home")
    made.prepare()
    return made


def test_a_cluster_id_never_looks_like_an_option() -> None:
    ids = {kafka._cluster_id() for _ in range(2000)}

    assert len(ids) == 2000
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", made) for made in ids)


def test_the_broker_listens_on_loopback_only(layout: Layout) -> None:
    kafka.configure_broker(layout, port=20001, controller_port=20002)
    text = (layout.run / "kafka.properties").read_text()
    properties = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))

    assert properties["listeners"] == "BROKER://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:20002"
    assert properties["auto.create.topics.enable"] == "false"
    assert Path(properties["log.dirs"]).is_relative_to(layout.data)


def test_a_path_that_kafka_takes_for_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="without a comma"):
        kafka.configure_broker(Layout(tmp_path / "a,b"), port=20001, controller_port=20002)


def test_logs_without_their_meta_data_are_not_formatted_over(layout: Layout) -> None:
    log = layout.data / "kafka" / "topic-0" / "00000000000000000000.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"events")

    with pytest.raises(EmbeddedError, match=r"Expected meta\.properties beside the logs"):
        kafka.format_storage(layout, Path("unused"))
    assert log.read_bytes() == b"events"


def test_the_password_of_valkey_is_in_no_command_line(layout: Layout) -> None:
    valkey.configure_valkey(layout, port=20003, password="planted-password")
    file = layout.run / "valkey.conf"

    assert "requirepass planted-password" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "planted-password" not in " ".join(valkey.valkey_command(layout))
    assert "bind 127.0.0.1" in file.read_text()
    assert "appendfsync always" in file.read_text()
