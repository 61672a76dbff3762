"""No identifier that is planted leaves the phi zone: everything outside it is scanned, in many encodings."""

from __future__ import annotations

import io
import json
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pydicom
import pytest
import redis
from pydicom import uid

from fetalmlops.domain.contracts.events import InstanceClassified, InstanceDeidentified, ObjectRef
from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.contracts.topics import INSTANCE_DEIDENTIFIED, INSTANCE_RECEIVED, TOPICS, Zone
from fetalmlops.domain.imaging.decoding import iter_frames
from fetalmlops.domain.imaging.frames import read_frames
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.simulation import (
    SCANNERS,
    BurnIn,
    InstanceSpec,
    Kind,
    Layout,
    Photometric,
    SimulatedInstance,
    make_instance,
    stored_frames,
)
from fetalmlops.platform.objects import open_objects
from support.canaries import Canaries
from support.channels import CHANNELS, REFUSED, SEARCHED, UID
from support.deployment import Deployment
from support.dicom_files import Sample
from support.evidence import (
    REASONS,
    SERVICES,
    Raw,
    Shared,
    command,
    ended,
    events,
    fetch,
    publish,
    records,
    send_raw,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STUDY = 9100
RGB, PALETTE = Layout(photometric=Photometric.RGB), Layout(photometric=Photometric.PALETTE)
SYNTAXES = (
    (uid.ExplicitVRLittleEndian, RGB),
    (uid.ImplicitVRLittleEndian, Layout()),
    (uid.ExplicitVRBigEndian, Layout()),
    (uid.DeflatedExplicitVRLittleEndian, RGB),
    (uid.RLELossless, PALETTE),
    (uid.JPEGBaseline8Bit, Layout(photometric=Photometric.YBR_FULL_422)),
    (uid.JPEGExtended12Bit, Layout()),
    (uid.JPEGLosslessSV1, RGB),
    (uid.JPEGLSLossless, Layout(photometric=Photometric.MONOCHROME1)),
    (uid.JPEGLSNearLossless, Layout()),
    (uid.JPEG2000Lossless, RGB),
    (uid.JPEG2000, Layout()),
)
GARBAGE = 24


@dataclass
class Sent:
    """What was sent: datasets, what they were made from, and every text planted in them."""

    items: list[Raw]
    instances: dict[Raw, SimulatedInstance]
    planted: set[str]


def plan() -> list[InstanceSpec]:
    """Return stills of every transfer syntax, cines, captures, reports, and text where it must not be."""
    still = InstanceSpec(study=STUDY, scanner=SCANNERS[2])
    specs = [
        replace(still, transfer_syntax=syntax, layout=layout, scanner=SCANNERS[number % len(SCANNERS)])
        for number, (syntax, layout) in enumerate(SYNTAXES)
    ]
    cine = replace(still, kind=Kind.ULTRASOUND_MULTIFRAME, frames=6)
    specs += [cine, replace(cine, transfer_syntax=uid.JPEGBaseline8Bit), replace(still, kind=Kind.ULTRASOUND_RETIRED)]
    specs += [replace(still, kind=Kind.SECONDARY_CAPTURE), replace(still, kind=Kind.SECONDARY_CAPTURE_GREY, frames=2)]
    specs += [replace(still, kind=Kind.SECONDARY_CAPTURE_COLOUR, layout=RGB), replace(still, regions=False)]
    specs += [replace(still, kind=Kind.BASIC_TEXT), replace(still, kind=Kind.COMPREHENSIVE)]
    specs += [replace(still, burn_in=BurnIn.INSIDE), replace(cine, burn_in=BurnIn.INSIDE, plane=Plane.FEMUR)]
    return [replace(spec, study=STUDY + number % 3, number=number + 1) for number, spec in enumerate(specs)]


def make() -> Sent:
    made = [make_instance(spec) for spec in plan()]
    instances = {Raw.of_part10(instance.data, str(instance.spec.kind)): instance for instance in made}
    planted = {text for instance in made for text in (*instance.planted, *instance.burned_in)}
    hurt = _hurt(made[0].data)
    planted |= {"CANÄRY^ÜMLAUT9F3C", "金絲雀^異體9F3C", "CANARYSEEN9F3C", *SEARCHED}
    return Sent([*instances, *hurt, *_channels()], instances, planted)


def _channels() -> list[Raw]:
    """Return one instance for each channel that no row of the table closes."""
    return [_sent_by_store(make(), name, f"{UID}.{number}") for number, (name, make) in enumerate(CHANNELS.items(), 1)]


def _sent_by_store(made: Sample, name: str, sop_instance_uid: str) -> Raw:
    made.attributes[0x0008_0018] = ("UI", sop_instance_uid.encode())
    made.meta = {}  # the sender's: it does not travel
    data = made.part10()
    (length,) = struct.unpack_from("<I", data, 140)
    sop_class_uid = made.attributes[0x0008_0016][1].decode()
    return Raw(sop_class_uid, sop_instance_uid, made.transfer_syntax, data[144 + length :], name)


def _hurt(data: bytes) -> list[Raw]:
    """Return damaged instances, an image without frames, other character sets, and datasets that are none."""
    whole = Raw.of_part10(data)
    rng = np.random.default_rng(STUDY)
    noise = [
        replace(
            whole,
            label="garbage",
            dataset=rng.bytes(200) + b"CANARYSEEN9F3C " + rng.bytes(2000),
            sop_instance_uid=f"2.25.{n}",
        )
        for n in range(GARBAGE)
    ]
    return [
        _changed(data, "truncated", cut=0.6),
        _changed(data, "truncated header", cut=0.002),
        _changed(data, "no frames", remove=("PixelData",)),
        _changed(data, "no study", remove=("StudyInstanceUID",)),
        _changed(data, "latin-1", SpecificCharacterSet="ISO_IR 100", PatientName="CANÄRY^ÜMLAUT9F3C"),
        _changed(data, "GB18030", SpecificCharacterSet="GB18030", PatientName="金絲雀^異體9F3C"),
        _changed(data, "words as numbers", InstanceNumber=None, SamplesPerPixel=None, ImageComments="CANARYSEEN9F3C"),
        *noise,
    ]


def _changed(data: bytes, label: str, *, cut: float = 1.0, remove: tuple[str, ...] = (), **values: object) -> Raw:
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.StudyInstanceUID[:40]}.{sum(label.encode())}"
    for name in remove:
        del ds[name]
    for name, value in values.items():
        setattr(ds, name, value)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    raw = Raw.of_part10(buffer.getvalue(), label)
    return replace(raw, dataset=raw.dataset[: int(len(raw.dataset) * cut)])


@pytest.fixture(scope="module")
def sent(shared: Shared) -> tuple[Sent, dict[Raw, int | None], dict[str, object]]:
    everything = make()
    statuses = send_raw(everything.items, shared.settings)
    kept = {item.content_id(shared.settings) for item, status in statuses.items() if status in (0x0000, 0xC000)}
    assert {item.label for item, status in statuses.items() if status is None} <= set(REFUSED)
    publish(shared.settings, (INSTANCE_RECEIVED.name, None, b'{"PatientName": "CANARYSEEN9F3C"}', []))
    found = ended(shared.settings, kept)
    assert set(found) == kept
    return everything, statuses, found


def test_nothing_planted_is_found_outside_the_phi_zone(
    shared: Shared, sent: tuple[Sent, dict[Raw, int | None], dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    everything, statuses, found = sent
    begun = time.monotonic()
    canaries = Canaries(everything.planted | {item.sop_instance_uid for item in everything.instances})
    _prove_that_it_finds(canaries, everything, shared.deployment)
    wait_until(lambda: _silent(shared), 15)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    hits: dict[str, set[str]] = defaultdict(set)
    for kind, place, data in outside(shared):
        counts[kind] += 1
        sizes[kind] += len(data)
        hits[kind] |= {f"{place}: {form.encoding}" for form in canaries.find(data)}
    with capsys.disabled():
        ends = Counter(
            item.decision.value if isinstance(item, InstanceClassified) else item.reason for item in found.values()
        )
        answers = Counter("not negotiated" if it is None else f"0x{it:04X}" for it in statuses.values())
        print(f"\nsent {len(statuses)}: {answers}; ends: {dict(ends)}")
        print(
            f"{len(canaries.texts)} planted texts, {len(canaries.forms)} forms searched, {time.monotonic() - begun:.0f} s"
        )
        print(f"{'scanned':<28}{'count':>8}{'bytes':>14}{'hits':>6}")
        for kind in counts:
            print(f"{kind:<28}{counts[kind]:>8}{sizes[kind]:>14,}{len(hits[kind]):>6}")
    assert not any(hits.values()), {kind: sorted(places)[:5] for kind, places in hits.items() if places}
    assert all(counts[kind] for kind in KINDS), "something that was to be scanned was not there"
    assert len(set(ends) & REASONS) >= 4
    assert ends["accept"] + ends["review"] + ends["out_of_scope"] >= 12


def _silent(shared: Shared) -> bool:
    """Return whether no more spans come: the exporters send theirs once a second."""
    before = len(shared.receiver.raw())
    time.sleep(2.5)
    return len(shared.receiver.raw()) == before


def _prove_that_it_finds(canaries: Canaries, everything: Sent, deployment: Deployment) -> None:
    """Make sure that the scan can fail: it finds each planted text in the phi objects, and each form in noise."""
    folder = deployment.home / "objects" / "phi"
    data = {path.stem: path.read_bytes() for path in folder.rglob("*.dcm")}
    for item, instance in everything.instances.items():
        stored = data[item.content_id(deployment.settings)]
        if instance.spec.transfer_syntax != uid.DeflatedExplicitVRLittleEndian:
            assert [text for text in instance.planted if text.encode() not in stored] == []
            assert {instance.spec.sop_instance_uid, "CANARY"} <= {form.text for form in canaries.find(stored)}
    noise = np.random.default_rng(1).bytes(1000)
    for form in canaries.forms:
        assert canaries.find(b"x" + form.data + b"x")
        assert form in canaries.find(noise + b"x" + form.data + b"x" + noise)
    assert not canaries.find(noise)


KINDS = (
    "clean topic values", "topic keys", "topic headers", "clean objects", "frames, decoded", "object names", "log files",
    "other state files", "broker files", "spans", "metrics", "readiness", "Valkey keys", "Valkey values", "vault records",
    "command output",
)  # fmt: skip


def outside(shared: Shared) -> Iterator[tuple[str, str, bytes]]:
    """Yield everything outside the phi zone: what kind it is, where it lies, its bytes."""
    yield from _topics(shared)
    yield from _objects(shared.deployment)
    yield from _files(shared.deployment)
    yield from (("spans", str(number), data) for number, data in enumerate(shared.receiver.raw()))
    for process in SERVICES:
        yield "metrics", process, fetch(shared.deployment, process, "/metrics")
        yield "readiness", process, fetch(shared.deployment, process, "/readyz")
    yield from _valkey(shared)
    yield from _commands(shared)


def _topics(shared: Shared) -> Iterator[tuple[str, str, bytes]]:
    for topic in TOPICS:
        for record in records(shared.settings, topic):
            place = f"{topic.name} {record.partition}/{record.offset}"
            yield "topic keys", place, record.key or b""
            yield from (("topic headers", place, name.encode() + b" " + value) for name, value in record.headers)
            if topic.zone is Zone.CLEAN:
                yield "clean topic values", place, record.value or b""


def _objects(deployment: Deployment) -> Iterator[tuple[str, str, bytes]]:
    folder = deployment.home / "objects"
    for path in (place for place in folder.rglob("*") if place.is_file()):
        name = path.relative_to(folder).as_posix()
        yield "object names", "an object", name.encode()
        if not name.startswith("clean/"):
            continue
        data = path.read_bytes()
        yield "clean objects", name, data
        if name.startswith("clean/frames/"):
            yield "frames, decoded", name, b"".join(chunk.pixels.tobytes() for chunk in read_frames(data).chunks())


def _files(deployment: Deployment) -> Iterator[tuple[str, str, bytes]]:
    """Yield all other files of the state folder, but for the keys, and the phi topics' own records."""
    secret = tuple(f"{topic.name}-" for topic in TOPICS if topic.zone is Zone.PHI)
    for path in (place for place in deployment.home.rglob("*") if place.is_file()):
        name = path.relative_to(deployment.home).as_posix()
        top = name.partition("/")[0]
        if (
            top in {"objects", "secrets"}
            or path.parent.name.startswith(secret)
            or path.suffix in {".index", ".timeindex"}
        ):
            continue
        kind = "log files" if top == "logs" else "broker files" if name.startswith("data/") else "other state files"
        yield kind, name, name.encode() + b"\n" + path.read_bytes()


def _valkey(shared: Shared) -> Iterator[tuple[str, str, bytes]]:
    valkey = shared.settings.valkey
    client = redis.Redis(valkey.host, valkey.port, password=valkey.password.get_secret_value())
    for key in client.keys("*"):
        yield "Valkey keys", "a key", key
        value = client.get(key) if client.type(key) == b"string" else json.dumps(_texts(client.hgetall(key))).encode()
        yield "vault records" if key.startswith(b"vault:") else "Valkey values", key.decode(), value
    client.close()


def _texts(values: dict[bytes, bytes]) -> dict[str, str]:
    return {key.decode("latin-1"): value.decode("latin-1") for key, value in values.items()}


def _commands(shared: Shared) -> Iterator[tuple[str, str, bytes]]:
    home = shared.deployment.home
    listed = json.loads(command(home, "quarantine", "list", "--json").stdout)
    instance = next(item["context"]["instance"] for item in listed if item.get("context"))
    runs: list[tuple[str, ...]] = [
        ("status", "--json"),
        ("quarantine", "list"),
        ("quarantine", "list", "--json"),
        ("results",),
    ]
    runs += [("results", "--json"), ("trace", instance), ("logs", "--lines", "100"), ("doctor",)]
    by_reason = {item["reason"]: item["entry_id"] for item in listed}
    runs += [("quarantine", "show", entry) for entry in by_reason.values()]
    for arguments in runs:
        done = command(home, *arguments)
        assert done.returncode == 0 or arguments == ("doctor",), done.stderr
        yield "command output", " ".join(arguments), done.stdout.encode() + done.stderr.encode()


def test_burned_in_text_outside_the_regions_is_gone_from_the_pixels(
    shared: Shared, sent: tuple[Sent, dict[Raw, int | None], dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Text in pixels has no bytes to look for: where it was drawn, the clean pixels must show nothing."""
    everything, _, _ = sent
    clean = _clean_objects(shared)
    rows = []
    for item, instance in everything.instances.items():
        event = clean.get(item.content_id(shared.settings))
        if event is None or not instance.spec.is_image:
            continue
        mask = _text_mask(instance.spec)
        before, after = next(stored_frames(instance.spec)), _first_frame(_read(shared, event.object))
        inside = np.zeros(mask.shape, bool)
        for x0, y0, x1, y1 in event.deidentification.rectangles:
            inside[y0:y1, x0:x1] = True
        outside_text, inside_text = mask & ~inside, mask & inside
        assert before[outside_text].std() > 10, "the text is not where it was looked for"
        left = int((after[outside_text] != after[~inside][0]).sum())
        rows.append((instance.spec, int(outside_text.sum()), left, int(inside_text.sum())))
    with capsys.disabled():
        print(
            f"\n{'burned in':<10}{'kind':<24}{'syntax':<26}{'text pixels outside':>20}{'left':>6}{'inside regions':>16}"
        )
        for spec, drawn, left, within in rows:
            print(f"{spec.burn_in:<10}{spec.kind:<24}{spec.transfer_syntax:<26}{drawn:>20}{left:>6}{within:>16}")
    assert len(rows) >= 12
    assert not any(left for _, _, left, _ in rows)
    assert not any(within for spec, _, _, within in rows if spec.burn_in is BurnIn.OUTSIDE)


def _clean_objects(shared: Shared) -> dict[str, InstanceDeidentified]:
    found = events(shared.settings, INSTANCE_DEIDENTIFIED, InstanceDeidentified)
    return {event.content_id: event for _, event in found}


def _read(shared: Shared, ref: ObjectRef) -> bytes:
    return open_objects(shared.settings, Zone.CLEAN).get(ref)


def _first_frame(data: bytes) -> np.ndarray:
    return next(iter(iter_frames(open_image(io.BytesIO(data)).source, [1]))).pixels


def _text_mask(spec: InstanceSpec) -> np.ndarray:
    """Return where identity was drawn: where the screen differs from one without it."""
    with_text, without = (next(stored_frames(item)).astype(int) for item in (spec, replace(spec, burn_in=BurnIn.NONE)))
    differs = np.abs(with_text - without) > 0
    return differs.any(axis=2) if differs.ndim == 3 else differs
