"""Events: round trips, tolerance of what is new, refusal of what is wrong, and generated files that are current."""

import json
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from fetalmlops import __version__
from fetalmlops.domain.contracts import codec, topics
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import InstanceClassified, InstanceReceived
from fetalmlops.domain.contracts.planes import Decision, OpenEnum, Plane
from fetalmlops.domain.contracts.schemas import schema_files
from fetalmlops.domain.errors import ContractError

ROOT = Path(__file__).parents[2]


def test_generated_files_are_current() -> None:
    files = schema_files(__version__)
    stale = [name for name, text in files.items() if (ROOT / "schemas" / name).read_text("utf-8") != text]
    assert not stale, "run make schemas"
    assert {path.name for path in (ROOT / "schemas").iterdir()} == set(files)


def test_round_trip(samples: ModuleType) -> None:
    result = samples.classified(plane=Plane.BRAIN, probabilities={"brain": 0.5})
    assert codec.decode(InstanceClassified, codec.encode(result)) == result


def test_unknown_fields_and_words_are_tolerated(samples: ModuleType) -> None:
    value = json.loads(codec.encode(samples.classified()))
    value |= {"a_new_field": [1], "decision": "a decision of the future", "plane": "placenta"}
    result = codec.decode(InstanceClassified, json.dumps(value).encode())
    assert result.decision is Decision.UNKNOWN
    assert result.plane is Plane.UNKNOWN


@pytest.mark.parametrize("field", ["content_id", "revision", "origin", "context", "object"])
def test_missing_fields_are_refused(samples: ModuleType, field: str) -> None:
    value = json.loads(codec.encode(samples.RECEIVED))
    del value[field]
    with pytest.raises(ContractError, match="InstanceReceived") as caught:
        codec.decode(InstanceReceived, json.dumps(value).encode())
    assert caught.value.reason == "schema"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("content_id", "DOE^JANE"), ("revision", -1), ("origin", "../../etc"), ("object", {"uri": "elsewhere/x"})],
)
def test_wrong_values_are_refused_without_being_quoted(samples: ModuleType, field: str, wrong: object) -> None:
    value = json.loads(codec.encode(samples.RECEIVED)) | {field: wrong}
    with pytest.raises(ContractError) as caught:
        codec.decode(InstanceReceived, json.dumps(value).encode())
    assert str(wrong) not in str(caught.value)


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"{", b"[]", b"[" * 100_000])
def test_what_is_no_event_is_refused(value: bytes | None) -> None:
    with pytest.raises(ContractError):
        codec.decode(InstanceReceived, value)


def test_every_vocabulary_of_the_wire_is_open() -> None:
    def enums(item: object) -> set[type]:
        found = set()
        for part in vars(item).values() if hasattr(item, "__dict__") else []:
            if isinstance(part, type) and issubclass(part, OpenEnum) and part is not OpenEnum:
                found.add(part)
        return found

    from fetalmlops.domain.contracts import events, planes

    vocabularies = enums(events) | enums(planes)
    assert len(vocabularies) >= 10
    assert all(vocabulary("no such word") is vocabulary["UNKNOWN"] for vocabulary in vocabularies)


def test_topic_names_follow_the_pattern() -> None:
    assert len({topic.name for topic in topics.TOPICS}) == len(topics.TOPICS)
    for topic in topics.TOPICS:
        assert topic.name.rsplit(".", 1)[1] == "v1"
        assert issubclass(topic.event, msgspec.Struct)
        assert (topic.retention_days is None) == (topic.retention_bytes is None)


def test_envelope_round_trip_and_foreign_headers() -> None:
    envelope = Envelope(
        id="96c5a516-bafe-8a00-8879-fda4b0e55166",
        type="t.v1",
        source="fetalmlops/test",
        time_ms=1_700_000_000_123,
        subject="s",
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        replay_of="x",
        replay_stage="anonymizer",
        replay_number=2,
        release="y/z",
    )
    assert Envelope.from_headers([*envelope.to_headers(), ("foreign", b"\xff")]) == envelope


@pytest.mark.parametrize(
    ("name", "value"), [("ce_id", b"1"), ("ce_id", b""), ("ce_time", b"yesterday"), ("ce_specversion", b"9")]
)
def test_broken_envelopes_are_refused(name: str, value: bytes) -> None:
    good = dict(Envelope(id="96c5a516-bafe-8a00-8879-fda4b0e55166", type="t", source="s", time_ms=0).to_headers())
    with pytest.raises(ContractError):
        Envelope.from_headers([*(good | {name: value}).items()])
