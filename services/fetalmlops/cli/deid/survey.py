"""``fetalmlops deid survey``: what a folder of files would come to, looked at in parallel; nothing is changed."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from fetalmlops.cli.deid.run import progress_bar, reason_of
from fetalmlops.cli.deid.survey_child import Looks, Rules, Seen
from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
from fetalmlops.domain.deid.survey.report import ordered, survey_report
from fetalmlops.domain.deid.survey.tally import CLEAN, Survey
from fetalmlops.domain.errors import ContractError, FetalMLOpsError
from fetalmlops.platform.sandbox.parent import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from fetalmlops.domain.deid.rules.profile import Profile
    from fetalmlops.domain.deid.survey.facts import Scanner
    from fetalmlops.domain.deid.survey.tally import ScannerTally

__all__ = ["Surveyed", "SurveyOptions", "survey_folder"]

_CHILD = "fetalmlops.cli.deid.survey_child:"
_CONFIGURE = "fetalmlops.platform.dicom.decoding:configure"
_MIB = 1 << 20
_AHEAD = 32  # files a child that may be read before the one that is waited for
_LONGEST_NAME = 64
_PREVIEWED = 3  # files that are tried for a preview
_NOT_STATED = (
    "Expected headers that state manufacturer, model and software versions in plain words, got others; "
    "a device profile cannot name such a scanner: have it write its regions, or declare the source clean if it burns nothing in"
)


@dataclass(frozen=True)
class SurveyOptions:
    """What a survey goes by.

    Parameters
    ----------
    profile, toml
        The profile, and the file that it was read from.
    devices
        Profiles of devices that there are already.
    text
        Whether to look for text in what would be kept.
    paths
        Whether to keep the paths of files that would be refused.
    jobs
        Files at once.
    memory_mib, timeout_s
        Bounds of the work on one file.
    """

    profile: Profile
    toml: bytes
    devices: DeviceProfiles = field(default_factory=DeviceProfiles)
    text: bool = False
    paths: bool = False
    jobs: int = 2
    memory_mib: int = 1024
    timeout_s: float = 300.0


@dataclass
class Surveyed:
    """What came of a survey.

    Parameters
    ----------
    survey
        The sums.
    looks
        What was seen of the samples, by the number of the scanner in the report.
    refused
        Paths below the folder, with the reason, of the files that would be refused; empty unless asked for.
    interrupted
        Whether it was stopped before the last file.
    """

    survey: Survey = field(default_factory=Survey)
    looks: dict[int, Looks] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    interrupted: bool = False

    def report(self, options: SurveyOptions) -> dict[str, Any]:
        """Return what the survey says, without pictures; see `survey_report`."""
        report = survey_report(self.survey, options.profile, text=options.text, interrupted=self.interrupted)
        for entry in report["scanners"]:
            look = self.looks.get(entry["number"], Looks())
            entry["kept"] = {"rectangles": look.preview.rectangles} if look.preview else None
            entry["proposal"] = _told(look, self._patients(entry["number"])) if look.proposal else None
            entry["no_proposal"] = look.no_proposal
        if options.paths:
            report["refused_paths"] = self.refused
        return report

    def _patients(self, number: int) -> int:
        _, tally = ordered(self.survey)[number - 1]
        return len({sample.patient for sample in tally.unproven})


def survey_folder(root: Path, files: Sequence[Path], options: SurveyOptions, console: Console) -> Surveyed:
    """Look at files, then at the pixels of a few of each scanner. A Ctrl-C ends either, and what was seen so far stays.

    Raises
    ------
    ContractError
        If there is no DICOM file among them.
    """
    rules = Rules(
        profile=options.toml,
        devices=options.devices.encoded,
        text=options.text,
        salt=secrets.token_bytes(32),
    )
    packed = msgspec.msgpack.encode(rules)
    done = Surveyed(Survey(total=len(files)))
    try:
        asyncio.run(_see_all(root, files, options, packed, done, console))
    except KeyboardInterrupt:
        done.interrupted = True
    if not done.survey.dicom and not done.interrupted:
        msg = (
            f"Expected DICOM files (PS3.10) in the folder, got {len(files)} files and none of them DICOM; "
            "name the folder that holds the images"
        )
        raise ContractError(msg)
    try:
        asyncio.run(_look_at_samples(options, packed, done, console))
    except KeyboardInterrupt:
        done.interrupted = True
    return done


async def _see_all(
    root: Path, files: Sequence[Path], options: SurveyOptions, packed: bytes, done: Surveyed, console: Console
) -> None:
    sandbox: Sandbox[Seen] = _sandbox("see", Seen, options)
    # Counted in order, whichever is read first: the same folder gives the same sample.
    ahead: deque[tuple[Path, asyncio.Task[Seen]]] = deque()
    with progress_bar(console) as bar:
        task = bar.add_task("Surveying", total=len(files))
        async with sandbox:
            waiting = iter(files)
            while _fill(ahead, waiting, options.jobs * _AHEAD, sandbox, packed):
                path, seeing = ahead.popleft()
                _count(done, path, root, await seeing, options)
                bar.advance(task)


def _fill(
    ahead: deque[tuple[Path, asyncio.Task[Seen]]],
    waiting: Iterator[Path],
    most: int,
    sandbox: Sandbox[Seen],
    packed: bytes,
) -> bool:
    """Start on files until enough are in work; return whether any is."""
    while len(ahead) < most and (path := next(waiting, None)) is not None:
        ahead.append((path, asyncio.create_task(_see(path, sandbox, packed))))
    return bool(ahead)


async def _see(path: Path, sandbox: Sandbox[Seen], packed: bytes) -> Seen:
    try:
        return await sandbox.call(os.fsencode(path), packed, False)
    except FetalMLOpsError as error:
        reason = reason_of(error)
    try:
        header = await sandbox.call(os.fsencode(path), packed, True)
    except FetalMLOpsError:
        return Seen(outcome=reason)
    return msgspec.structs.replace(header, outcome=reason)


def _count(done: Surveyed, path: Path, root: Path, seen: Seen, options: SurveyOptions) -> None:
    survey = done.survey
    if not seen.opened:
        survey.unopened += 1
        return
    if not seen.dicom:
        survey.not_dicom += 1
        return
    if seen.facts is None:
        survey.headless[seen.outcome] += 1
    else:
        survey.add(seen.facts, seen.outcome, seen.proof, str(path))
    if options.paths and seen.outcome != CLEAN:
        done.refused.append({"path": path.relative_to(root).as_posix(), "reason": seen.outcome})


async def _look_at_samples(options: SurveyOptions, packed: bytes, done: Surveyed, console: Console) -> None:
    scanners = ordered(done.survey)
    names = _profile_names([scanner for scanner, _ in scanners])
    wanted = [
        (number, scanner, tally)
        for number, (scanner, tally) in enumerate(scanners, 1)
        if scanner is not None and (tally.proven or tally.unproven)
    ]
    sandbox: Sandbox[Looks] = _sandbox("look", Looks, options)
    with progress_bar(console) as bar:
        task = bar.add_task("Looking at samples", total=len(wanted))
        async with sandbox:

            async def look(number: int, scanner: Scanner, tally: ScannerTally) -> None:
                proven = [os.fsencode(sample.place) for sample in tally.proven[:_PREVIEWED]]
                unproven = [os.fsencode(sample.place) for sample in tally.unproven if scanner.is_stated]
                why = "" if scanner.is_stated or not tally.unproven else _NOT_STATED
                try:
                    seen = await sandbox.call(proven, unproven, names[number], packed)
                except FetalMLOpsError as error:
                    seen = Looks(no_proposal=str(error) if unproven else "")
                done.looks[number] = msgspec.structs.replace(seen, no_proposal=seen.no_proposal or why)
                bar.advance(task)

            await asyncio.gather(*(look(*of) for of in wanted))


def _sandbox(target: str, result: type[Any], options: SurveyOptions) -> Sandbox[Any]:
    return Sandbox(
        f"{_CHILD}{target}",
        result,
        initializer=f"{_CHILD}prepare_text" if options.text else _CONFIGURE,
        workers=options.jobs,
        memory_bytes=options.memory_mib * _MIB,
        timeout=options.timeout_s,
    )


def _profile_names(scanners: Sequence[Scanner | None]) -> dict[int, str]:
    """Return a name of a device profile for each scanner by its number, no two the same."""
    names: dict[int, str] = {}
    for number, scanner in enumerate(scanners, 1):
        words = f"{scanner.model}-{scanner.software}-{scanner.columns}x{scanner.rows}" if scanner else ""
        slug = re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")[:_LONGEST_NAME] or "scanner"
        taken = slug in names.values()
        names[number] = f"{slug[: _LONGEST_NAME - 4]}-{number}" if taken else slug
    return names


def _told(look: Looks, patients: int) -> dict[str, Any] | None:
    proposal = look.proposal
    if proposal is None:
        return None
    return {
        "toml": proposal.toml,
        "rectangles": proposal.preview.rectangles,
        "images": proposal.images,
        "patients": patients,
        "changing_outside": round(proposal.changing_outside, 4),
    }
