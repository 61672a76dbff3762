"""One trace an instance from its C-STORE to its result; ids that follow resends, replays and two workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord
from prometheus_client.parser import text_string_to_metric_families
from pydicom import dcmread, uid

from fetalmlops.domain.contracts.events import EventQuarantined, InstanceClassified
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.topics import FRAMES_NORMALIZED, INSTANCE_CLASSIFIED, INSTANCE_RECEIVED
from fetalmlops.domain.simulation import SCANNERS, BurnIn, InstanceSpec, Kind, StudySpec, make_instance, plan_study
from fetalmlops.platform.lag import fetch_lags
from fetalmlops.platform.provisioning import open_admin
from fetalmlops.platform.service import EXIT_RETRY
from fetalmlops.platform.settings import Settings
from support.deployment import Deployment, deployed
from support.evidence import Raw, Shared, command, ended, fetch, publish, records, results, send_raw, wait_until
from support.otlp import Span

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STUDY = 9200
INSTANCES = 200
WORKERS = ("anonymizer", "normalizer", "classifier")
RPC = "fetalmlops.rpc.inference.v1.InferenceService/ClassifyFrame"
SERVER, CLIENT, CONSUMER = 2, 3, 5
STEPS = (
    ("listener", "dicom.c-store", SERVER, None),
    ("anonymizer", "process dicom.instance.received.v1", CONSUMER, "dicom.c-store"),
    ("normalizer", "process dicom.instance.deidentified.v1", CONSUMER, "process dicom.instance.received.v1"),
    ("classifier", "process imaging.frames.normalized.v1", CONSUMER, "process dicom.instance.deidentified.v1"),
    ("classifier", RPC, CLIENT, "process imaging.frames.normalized.v1"),
    ("inference", RPC, SERVER, "classifier " + RPC),
)
"""Service, name and kind of each span of an instance's trace, and the name of its parent."""


def study(seed: int, count: int) -> list[Raw]:
    specs = plan_study(StudySpec(seed=seed, instances=count, scanner=SCANNERS[2]))
    return [Raw.of_part10(make_instance(spec).data, str(spec.number)) for spec in specs]


def send(items: list[Raw], settings: Settings) -> set[str]:
    """Send instances, all of which must be stored; return their content ids."""
    assert set(send_raw(items, settings).values()) == {0x0000}
    return {item.content_id(settings) for item in items}


def classified(settings: Settings, contents: set[str]) -> dict[str, list[str]]:
    """Return the ``ce_id`` of every result on the topic, by content id."""
    found: dict[str, list[str]] = {content_id: [] for content_id in contents}
    for envelope, result in results(settings):
        if result.content_id in found:
            found[result.content_id].append(envelope.id)
    return found


def test_one_trace_leads_from_the_store_to_the_result(shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    contents = send(study(STUDY, 6), shared.settings)
    assert set(ended(shared.settings, contents)) == contents
    traces = {}
    for record in records(shared.settings, INSTANCE_CLASSIFIED):
        content_id = _content_id(record.value)
        if content_id in contents:
            traces[content_id] = dict(record.headers)["traceparent"].decode().split("-")[1:3]
    found = shared.receiver.wait_for({trace_id for trace_id, _ in traces.values()}, len(STEPS))
    assert len(found) == len(contents), "instances share a trace"
    for content_id, (trace_id, span_id) in traces.items():
        by_step = _check_steps(found[trace_id])
        assert by_step["process imaging.frames.normalized.v1"].span_id == span_id
        assert _trace_of_object(shared.deployment, content_id) == trace_id
        _check_association(shared, by_step["dicom.c-store"])
    with capsys.disabled():
        print(f"\n{len(contents)} instances, {sum(map(len, found.values()))} spans received; one trace:")
        for span in sorted(
            next(iter(found.values())), key=lambda span: [step[:2] for step in STEPS].index((span.service, span.name))
        ):
            print(f"  {span.service:<12}{span.name:<58}{span.span_id}  parent {span.parent or '-'}")


def _content_id(value: bytes | None) -> str:
    """Return which content an event is about; empty for what is no event, of which others put some on the topics."""
    try:
        return str(json.loads(value or b"{}").get("content_id", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""


def _check_steps(spans: list[Span]) -> dict[str, Span]:
    """Make sure that a trace has each step's span once, and that parents are right; return the spans by step."""
    by_step: dict[str, Span] = {}
    for service, name, kind, _ in STEPS:
        (span,) = (item for item in spans if (item.service, item.name, item.kind) == (service, name, kind))
        by_step[f"{service} {name}"] = by_step[name] = span
    for service, name, _, parent in STEPS:
        assert by_step[f"{service} {name}"].parent == (by_step[parent].span_id if parent else "")
    assert len(spans) == len(STEPS)
    return by_step


def _trace_of_object(deployment: Deployment, content_id: str) -> str:
    (place,) = (deployment.home / "objects" / "phi" / "instances").rglob(f"{content_id}.dcm")
    private = dcmread(place, specific_tags=[], stop_before_pixels=True).file_meta[0x0002, 0x0102].value
    return str(json.loads(private.rstrip(b"\0"))["traceparent"]).split("-")[1]


def _check_association(shared: Shared, store: Span) -> None:
    (link,) = store.links
    (association,) = (span for span in shared.receiver.spans() if span.span_id == link)
    assert (association.service, association.name) == ("listener", "dicom.associate")
    assert association.trace_id != store.trace_id


def test_ids_follow_what_is_sent_again(shared: Shared) -> None:
    items = study(STUDY + 1, 4)
    contents = send(items, shared.settings)
    ended(shared.settings, contents)
    before = classified(shared.settings, contents)
    assert [len(ids) for ids in before.values()] == [1] * 4
    assert send(items, shared.settings) == contents
    # Events that come again, too: every stage does its work, and the last one finds the result there.
    again = [record for topic in (INSTANCE_RECEIVED, FRAMES_NORMALIZED) for record in records(shared.settings, topic)]
    again = [record for record in again if _content_id(record.value) in contents]
    publish(shared.settings, *((record.topic, record.key, record.value, list(record.headers)) for record in again))
    marker = send(study(STUDY + 2, 1), shared.settings)
    ended(shared.settings, marker)
    assert wait_until(lambda: _lag(shared.deployment) == 0, 60)
    assert classified(shared.settings, contents) == before


def _lag(deployment: Deployment) -> int:
    return sum(fetch_lags(deployment.settings.kafka).values())


def test_another_content_of_an_instance_is_current_by_its_revision(shared: Shared) -> None:
    spec = InstanceSpec(study=STUDY + 3, scanner=SCANNERS[2])
    first = Raw.of_part10(make_instance(spec).data)
    second = Raw.of_part10(make_instance(replace(spec, transfer_syntax=uid.RLELossless)).data)
    assert first.sop_instance_uid == second.sop_instance_uid
    contents = send([first], shared.settings) | send([second], shared.settings)
    assert len(contents) == 2
    found = ended(shared.settings, contents)
    revisions = {item.content_id: item.revision for item in found.values() if isinstance(item, InstanceClassified)}
    assert revisions[first.content_id(shared.settings)] < revisions[second.content_id(shared.settings)]
    instance = shared.deployment.instance(first.sop_instance_uid)
    (current,) = (item for item in shared.deployment.results() if item.context.instance == instance)
    assert current.content_id == second.content_id(shared.settings)
    # The first content again is no newer: its first receipt decides.
    send([first], shared.settings)
    (current,) = (item for item in shared.deployment.results() if item.context.instance == instance)
    assert current.content_id == second.content_id(shared.settings)


def test_a_replay_keeps_ids_and_trace(shared: Shared) -> None:
    capture = Raw.of_part10(
        make_instance(InstanceSpec(study=STUDY + 4, kind=Kind.SECONDARY_CAPTURE, burn_in=BurnIn.NONE)).data
    )
    (content_id,) = contents = send([capture], shared.settings)
    entry = ended(shared.settings, contents)[content_id]
    assert isinstance(entry, EventQuarantined)
    home = shared.deployment.home
    sources = home / "sources.toml"
    kept = sources.read_text()
    declared = kept.replace('pixels = "regions"', 'pixels = "clean"')
    assert declared != kept
    sources.write_text(declared)
    try:
        # The table is looked at once a second.
        assert wait_until(lambda: _replayed(shared, entry, content_id), 90)
    finally:
        sources.write_text(kept)
    (event,) = (record for record in records(shared.settings, INSTANCE_RECEIVED) if _is_first(record, content_id))
    ids = classified(shared.settings, contents)[content_id]
    assert len(ids) == 1
    ((result_trace, result),) = (
        (envelope.traceparent.split("-")[1], result)
        for envelope, result in results(shared.settings)
        if result.content_id == content_id
    )
    assert result_trace == dict(event.headers)["traceparent"].decode().split("-")[1]
    versions = [result.lineage.profile, result.lineage.rules_digest, result.lineage.pipeline_digest]
    versions += [result.lineage.bundle_digest or "", result.lineage.precision, result.lineage.decision_digest or ""]
    assert ids == [event_id(content_id, "classifier", [*versions, result.role])]
    assert wait_until(
        lambda: content_id not in {item.entry.content_id for item in shared.deployment.open_entries()}, 60
    )


def _replayed(shared: Shared, entry: EventQuarantined, content_id: str) -> bool:
    open_ids = [item.entry.entry_id for item in shared.deployment.open_entries() if item.entry.content_id == content_id]
    for entry_id in open_ids:
        command(shared.deployment.home, "quarantine", "replay", entry_id)
    return bool(classified(shared.settings, {content_id})[content_id])


def _is_first(record: ConsumerRecord, content_id: str) -> bool:
    return _content_id(record.value) == content_id and "ce_replayof" not in dict(record.headers)


@contextmanager
def second_workers(deployment: Deployment) -> Iterator[None]:
    """Run a second process of each stage beside the first, in the same consumer group."""
    environment = {**os.environ, "FETALMLOPS_HOME": str(deployment.home), "FETALMLOPS_HEALTH__PORT": "0"}
    started = []
    for name in WORKERS:
        with (deployment.home / "logs" / f"second-{name}.log").open("w") as log:
            started.append(
                subprocess.Popen([sys.executable, "-P", "-m", f"fetalmlops.{name}"], env=environment, stderr=log)
            )
    try:
        assert wait_until(lambda: all(_members(deployment, name) == 2 for name in WORKERS), 60), "no second worker"
        yield
    finally:
        for process in started:
            process.terminate()
        codes = [process.wait(60) for process in started]
        assert EXIT_RETRY not in codes


def _members(deployment: Deployment, group: str) -> int:
    with open_admin(deployment.settings.kafka) as admin:
        return len(admin.describe_groups([group])[group]["members"])


def test_two_workers_give_each_instance_one_result_with_the_ids_of_one_worker(
    shared: Shared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = study(STUDY + 5, INSTANCES)
    alone = classified(shared.settings, _all_classified(items, shared.settings))
    share: dict[str, int] = {}
    with deployed(secrets=shared.settings.secrets_folder) as deployment, second_workers(deployment):
        beside = classified(deployment.settings, _all_classified(items, deployment.settings))
        current = deployment.results()
        share = {name: _handled(deployment, name) for name in WORKERS}
    with capsys.disabled():
        same = sum(alone[content_id] == beside[content_id] for content_id in alone)
        print(
            f"\n{len(items)} instances; contents {len(alone)}, one worker {sum(map(len, alone.values()))} results, ",
            end="",
        )
        print(
            f"two workers {sum(map(len, beside.values()))}, identical ids {same}; handled by the first worker: {share}"
        )
    assert alone == beside
    assert all(len(ids) == 1 for ids in beside.values())
    assert len(current) == len(items)
    assert all(0 < count < len(items) for count in share.values())


def _all_classified(items: list[Raw], settings: Settings) -> set[str]:
    contents = send(items, settings)
    found = ended(settings, contents)
    assert set(found) == contents
    assert all(isinstance(item, InstanceClassified) for item in found.values())
    return contents


def _handled(deployment: Deployment, name: str) -> int:
    families = text_string_to_metric_families(fetch(deployment, name, "/metrics").decode())
    samples = [sample for family in families for sample in family.samples]
    return round(sum(sample.value for sample in samples if sample.name == "fetalmlops_stage_events_total"))
