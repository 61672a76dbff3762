"""The ten actions by which the MIDI-B challenge scores de-identification, on simulated ultrasound with planted identifiers.

An action is required where its profile promises it: dates are shifted by ``research`` only, and elsewhere must be removed, be
their year, or stay. Each check is one attribute, string, UID or rectangle of one instance.
"""

from __future__ import annotations

import datetime as dt
import io
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLSLossless

from fetalmlops.domain.deid import PROFILES, Deidentifier, Profile
from fetalmlops.domain.deid.rules.dates import DatePolicy
from fetalmlops.domain.deid.rules.explain import Fate, explain
from fetalmlops.domain.imaging.decoding import iter_frames
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.simulation import (
    BurnIn,
    InstanceSpec,
    Kind,
    Layout,
    Photometric,
    SimulatedInstance,
    make_instance,
)
from support.canaries import Canaries
from support.deid import codes_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.contracts.identifiers import PseudonymKey

__all__ = ["ACTIONS", "Score", "all_scores", "planted_instances", "score"]

ACTIONS = ("tag retained", "text not null", "text retained", "text removed", "date shifted", "UID changed",
    "UID consistent", "patient id consistent", "pixels hidden", "pixels retained")  # fmt: skip

RETAINED = ("SOPClassUID", "Modality", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData")  # fmt: skip
"""What an image is useless without."""
FILLED = ("ImageType", "PatientID", "DeidentificationMethod", "PatientIdentityRemoved", "StudyInstanceUID", "SOPInstanceUID",
    "SeriesInstanceUID")  # fmt: skip
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
DATES = ("StudyDate", "SeriesDate", "ContentDate", "LastMenstrualDate")


@dataclass
class Score:
    """Checks passed and required, by action; and what failed, by action and place."""

    passed: Counter[str] = field(default_factory=Counter)
    required: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def check(self, action: str, held: bool, place: str) -> None:
        self.required[action] += 1
        self.passed[action] += held
        if not held:
            self.failed.append(f"{action}: {place}")


def planted_instances() -> list[SimulatedInstance]:
    """Return two studies of one patient each: still, cine and retired images, compressed and not, with names burned in."""
    rgb, ybr = Layout(photometric=Photometric.RGB), Layout(photometric=Photometric.YBR_FULL_422)
    specs = []
    for study in (1, 2):
        specs += [
            InstanceSpec(study=study, number=1),
            InstanceSpec(study=study, number=2, layout=rgb, transfer_syntax=ExplicitVRLittleEndian),
            InstanceSpec(study=study, number=3, transfer_syntax=JPEGLSLossless),
            InstanceSpec(study=study, number=4, kind=Kind.ULTRASOUND_RETIRED),
            InstanceSpec(study=study, number=5, layout=ybr, transfer_syntax=JPEGBaseline8Bit, frames=3,
                kind=Kind.ULTRASOUND_MULTIFRAME, burn_in=BurnIn.OUTSIDE),
        ]  # fmt: skip
    return [make_instance(spec) for spec in specs]


def score(profile: Profile, key: PseudonymKey, instances: list[SimulatedInstance]) -> Score:
    """De-identify the instances and score what came of them."""
    engine, result = Deidentifier(codes_for(profile, key), profile), Score()
    uids: dict[str, set[str]] = defaultdict(set)
    patients: dict[str, set[str]] = defaultdict(set)
    for instance in instances:
        output, evidence = engine.deidentify_bytes(instance.data)
        before, after = (pydicom.dcmread(io.BytesIO(data)) for data in (instance.data, output))
        _score_tags(result, profile, instance, before, after)
        _score_text(result, profile, instance, output)
        _score_dates(result, profile, before, after)
        for keyword in UIDS:
            old, new = str(before[keyword].value), str(after[keyword].value)
            result.check("UID changed", new not in ("", old) and old.encode() not in output, keyword)
            uids[old].add(new)
        patients[str(before.PatientID)].add(str(after.PatientID))
        _score_pixels(result, instance.data, output, evidence.report.rectangles)
    for action, found in (("UID consistent", uids), ("patient id consistent", patients)):
        codes = [code for values in found.values() for code in values]
        for values in found.values():
            code = next(iter(values))
            result.check(
                action, len(values) == 1 and codes.count(code) == 1 and bool(code), "one code for each, each its own"
            )
    return result


def _score_tags(
    result: Score, profile: Profile, instance: SimulatedInstance, before: pydicom.Dataset, after: pydicom.Dataset
) -> None:
    for keyword in RETAINED:
        result.check("tag retained", keyword in after, keyword)
    for keyword in FILLED:
        result.check("text not null", bool(after.get(keyword)), keyword)
    naming = {word for text in instance.planted for word in _words(text)}
    for element in before:
        kept = explain(profile, int(element.tag)).fate is Fate.KEPT
        # A text that shares a word with a planted one names somebody, and is rightly removed.
        if (
            not kept
            or element.VR in ("DA", "TM", "DT")
            or element.keyword in _CHANGED
            or naming & _words(element.value)
        ):
            continue
        result.check("tag retained", element.tag in after, element.keyword)
        if element.VR in ("CS", "LO", "DS", "IS", "SH"):
            found = after.get(element.tag)
            result.check("text retained", found is not None and found.value == element.value, element.keyword)


def _words(value: Any) -> set[str]:
    return {word for word in re.findall(r"\w+", str(value).upper()) if not word.isdigit() and len(word) > 1}


_CHANGED = frozenset({"BurnedInAnnotation", "PhotometricInterpretation", "PlanarConfiguration", "LossyImageCompression",
    "HighBit"})  # fmt: skip
"""What must change where the pixels are coded anew."""


def _score_text(result: Score, profile: Profile, instance: SimulatedInstance, output: bytes) -> None:
    texts = [text for text in instance.planted if not _may_stay(profile, text)]
    header = output[: output.find(b"\xe0\x7f\x10\x00O")]  # pixels are scored by themselves
    found = [form.text for form in _canaries(tuple(texts)).find(header)]
    for text in texts:
        result.check("text removed", not any(part in text for part in found), "a planted text")


@cache
def _canaries(texts: tuple[str, ...]) -> Canaries:
    return Canaries(texts)


def _may_stay(profile: Profile, text: str) -> bool:
    """Return whether a planted text is a date or a time that the profile's policy lets stay."""
    is_time = re.fullmatch(r"[0-9]{6}\.[0-9]{6}", text) is not None
    is_date = re.fullmatch(r"19[0-9]{6}([0-9]{6}\.[0-9]{6})?", text) is not None
    return (is_time and profile.dates in (DatePolicy.SHIFT, DatePolicy.FULL)) or (
        is_date and profile.dates is DatePolicy.FULL
    )


def _score_dates(result: Score, profile: Profile, before: pydicom.Dataset, after: pydicom.Dataset) -> None:
    present = [keyword for keyword in DATES if before.get(keyword)]
    if profile.dates is not DatePolicy.SHIFT:
        expected = {
            DatePolicy.NONE: lambda _old: "",
            DatePolicy.YEAR: lambda old: old[:4] + "0101",
            DatePolicy.FULL: lambda old: old,
        }[profile.dates]
        for keyword in present:
            held = str(after.get(keyword, "") or "") in ("", expected(str(before[keyword].value)))
            result.check(f"date {profile.dates.value}", held, keyword)
        return
    shifts = {keyword: _days(str(after.get(keyword, "") or ""), str(before[keyword].value)) for keyword in present}
    given = [days for days in shifts.values() if days is not None]
    for keyword, days in shifts.items():
        result.check("date shifted", days is not None and -1825 <= days <= -1 and days == given[0], keyword)


def _days(after: str, before: str) -> int | None:
    if not after:
        return None
    return (dt.datetime.strptime(after, "%Y%m%d") - dt.datetime.strptime(before, "%Y%m%d")).days  # noqa: DTZ007


def _score_pixels(result: Score, before: bytes, after: bytes, rectangles: list[tuple[int, int, int, int]]) -> None:
    for old, new in zip(_frames(before), _frames(after), strict=True):
        outside = np.ones(new.shape[:2], bool)
        for x0, y0, x1, y1 in rectangles:
            outside[y0:y1, x0:x1] = False
            same = np.array_equal(old[y0:y1, x0:x1], new[y0:y1, x0:x1])
            result.check("pixels retained", bool(same), f"{x0}, {y0}, {x1}, {y1}")
        rest = new[outside]
        written = bool(np.ptp(old[outside]) > 0)
        result.check("pixels hidden", written and bool((rest == rest[0]).all()), "outside the regions")


def _frames(part10: bytes) -> Iterator[np.ndarray[Any, Any]]:
    source = open_image(io.BytesIO(part10)).source
    return (frame.pixels for frame in iter_frames(source, [1, source.layout.frames]))


def all_scores(key: PseudonymKey) -> dict[str, Score]:
    """Return the score of every profile."""
    instances = planted_instances()
    return {name: score(profile, key, instances) for name, profile in sorted(PROFILES.items())}
