"""Real ultrasound, captures and reports of public packages: each ends as a result, in quarantine, or at the door."""

from __future__ import annotations

import importlib.util
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import AE, build_context

from fetalmlops.domain.contracts.events import InstanceClassified
from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.platform.settings import Settings
from support.evidence import REASONS, Raw, Shared, ended, send_raw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGES = ("data_store", "deid_data", "pydicom")
WORDS = ("Ultrasound", "US Volume", "Secondary Capture", " SR ", "Key Object Selection")
REFUSED_WORDS = {3: "SOP class not negotiated", 4: "transfer syntax not negotiated"}


def found() -> dict[Path, Raw | None]:
    """Return the files of our kinds, each as it would be sent; None for one that cannot be, since it says too little."""
    files: dict[Path, Raw | None] = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for place in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                data = place.read_bytes()
                if data[128:132] == b"DICM" and _is_ours(data):
                    files[place] = _raw(data, place.name)
    return files


def _is_ours(data: bytes) -> bool:
    try:
        name = UID(
            str(dcmread(BytesIO(data), specific_tags=[], stop_before_pixels=True).file_meta.MediaStorageSOPClassUID)
        ).name
    except Exception:
        return False
    return any(word in f"{name} " for word in WORDS)


def _raw(data: bytes, name: str) -> Raw | None:
    try:
        return Raw.of_part10(data, name)
    except AttributeError:
        return None


def _refusal(item: Raw, settings: Settings) -> str:
    """Return why nothing is negotiated for a file."""
    listener = settings.listener
    contexts = [build_context(UID(item.sop_class_uid), UID(item.transfer_syntax_uid))]
    assoc = AE(ae_title="FETALSIM").associate("127.0.0.1", listener.port, contexts=contexts, ae_title=listener.ae_title)
    results = [context.result for context in assoc.rejected_contexts]
    if assoc.is_established:
        assoc.release()
    return " and ".join(REFUSED_WORDS[result] for result in results)


@pytest.mark.filterwarnings("ignore")
def test_each_real_file_ends_with_a_clear_reason(shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    files = found()
    if not any("data_store" in str(place) for place in files):
        pytest.skip("pydicom-data is not installed")
    sendable = {place: item for place, item in files.items() if item is not None}
    statuses = {place: send_raw([item], shared.settings)[item] for place, item in sendable.items()}
    contents = {
        place: sendable[place].content_id(shared.settings)
        for place, status in statuses.items()
        if status in (0, 0xC000)
    }
    ends = ended(shared.settings, set(contents.values()))
    rows = []
    for place, item in files.items():
        if item is None:
            rows.append((place, "", "", "not sent", "file meta information without the UIDs that are needed"))
            continue
        status, end = statuses[place], ends.get(contents.get(place, ""))
        kind, syntax = UID(item.sop_class_uid).name, UID(item.transfer_syntax_uid).name
        if status is None:
            rows.append((place, kind, syntax, "refused", _refusal(item, shared.settings)))
        elif end is None:
            rows.append((place, kind, syntax, f"0x{status:04X}", ""))
        elif isinstance(end, InstanceClassified):
            rows.append((place, kind, syntax, "result", f"{end.decision}: {', '.join(end.reasons) or end.plane}"))
        else:
            rows.append((place, kind, syntax, "quarantine", f"{end.reason}: {end.message}"))
    with capsys.disabled():
        print(f"\n{len(rows)} files; ends: {dict(Counter(row[3] for row in rows))}")
        for place, kind, syntax, end, reason in rows:
            print(f"{place.name[:42]:<43}{kind[:36]:<37}{syntax[:40]:<41}{end:<11}{reason[:100]}")
    assert len(rows) > 20
    assert {row[3] for row in rows} <= {"result", "quarantine", "refused", "not sent"}
    assert all(row[4] for row in rows)
    assert set(statuses.values()) <= {None, 0x0000, 0xC000}
    for place, status in statuses.items():
        ours = sendable[place].sop_class_uid in STORAGE_CLASSES
        assert status is not None or not ours or "transfer syntax" in _refusal(sendable[place], shared.settings)
    for end in ends.values():
        if not isinstance(end, InstanceClassified):
            assert end.reason in REASONS
            assert end.message.startswith("Expected ")
