"""``fetalmlops deid run``: folders of files, in parallel, resumable, nothing half-written."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fetalmlops.cli.deid.child import CleanFile
from fetalmlops.domain.deid.rules.profile import CodePolicy, Profile
from fetalmlops.domain.deid.rules.table import standard_table
from fetalmlops.domain.errors import DeadlyError, FetalMLOpsError, PermanentError, SettingsError
from fetalmlops.platform.sandbox.parent import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.console import Console

__all__ = ["Run", "RunOptions", "progress_bar", "reason_of", "report_of", "run_folder"]

_DRAFTS = ".drafts"
_JOURNAL = ".deid.jsonl"
_BOOK = ".codes.sqlite"
_MIB = 1 << 20


@dataclass(frozen=True)
class RunOptions:
    """What a run is to do.

    Parameters
    ----------
    target
        Folder of the clean files.
    profile, toml
        The profile, and the file that it was read from.
    key
        Project and pseudonym key in hexadecimal digits; empty for profiles with random codes.
    source_clean
        Whether the files' source is declared to burn nothing in.
    workers
        Files at once.
    memory_mib, timeout_s
        Bounds of the work on one file.
    """

    target: Path
    profile: Profile
    toml: bytes
    key: tuple[str, str]
    source_clean: bool = False
    workers: int = 2
    memory_mib: int = 1024
    timeout_s: float = 300.0


@dataclass
class Run:
    """How far a run has come: outcomes by file, those of earlier runs that still hold among them."""

    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    resumed: int = 0

    @property
    def counts(self) -> Counter[str]:
        """Files by how they ended: ``clean``, or the reason."""
        return Counter(outcome["reason"] or "clean" for outcome in self.outcomes.values())


def run_folder(root: Path, files: Iterable[Path], options: RunOptions, console: Console) -> Run:
    """De-identify files; what an earlier run with the same profile has done is not done again.

    Raises
    ------
    SettingsError
        If the target lies within the source, or the other way round.
    """
    source, target = root.resolve(), options.target.resolve()
    if source == target or source in target.parents or target in source.parents:
        msg = "Expected a target folder apart from the source, got one within the other; name another"
        raise SettingsError(msg)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(target / _DRAFTS, ignore_errors=True)
    (target / _DRAFTS).mkdir()
    run = Run()
    try:
        asyncio.run(_run(root, list(files), options, run, console))
    finally:
        shutil.rmtree(target / _DRAFTS, ignore_errors=True)
    return run


def report_of(run: Run, options: RunOptions) -> dict[str, Any]:
    """Return a run's report: what was done by which rules, and why files were refused. It names files, not what is in them."""
    actions: Counter[str] = Counter()
    pixels: Counter[str] = Counter()
    for outcome in run.outcomes.values():
        actions.update(outcome["actions"])
        pixels.update([outcome["pixel_action"]] if outcome["pixel_action"] else [])
    profile = options.profile
    return {
        "profile": {"name": profile.name, "version": profile.version, "digest": profile.digest},
        "rules": {"edition": profile.edition, "table_digest": standard_table().digest},
        "files": dict(sorted(run.counts.items())),
        "attributes": dict(sorted(actions.items())),
        "pixels": dict(sorted(pixels.items())),
        "refused": [
            {"file": name, "reason": outcome["reason"], "message": outcome["message"]}
            for name, outcome in sorted(run.outcomes.items())
            if outcome["reason"]
        ],
    }


async def _run(root: Path, files: list[Path], options: RunOptions, run: Run, console: Console) -> None:
    done = _journal(options.target / _JOURNAL)
    sandbox: Sandbox[CleanFile] = Sandbox(
        "fetalmlops.cli.deid.child:deidentify",
        CleanFile,
        initializer="fetalmlops.platform.dicom.decoding:configure",
        workers=options.workers,
        memory_bytes=options.memory_mib * _MIB,
        timeout=options.timeout_s,
    )
    with progress_bar(console) as bar, (options.target / _JOURNAL).open("ab") as journal:
        task = bar.add_task("De-identifying", total=len(files))
        waiting = iter(files)
        async with sandbox:

            async def work() -> None:
                for file in waiting:
                    name, mark = file.relative_to(root).as_posix(), _mark(file, options)
                    outcome = done.get(mark)
                    if outcome is not None and _still_holds(outcome, options.target):
                        run.resumed += 1
                    else:
                        outcome = await _one(file, mark, options, sandbox)
                        _append(journal, outcome)
                    run.outcomes[name] = outcome
                    bar.advance(task)

            await asyncio.gather(*(work() for _ in range(options.workers)))


async def _one(file: Path, mark: str, options: RunOptions, sandbox: Sandbox[CleanFile]) -> dict[str, Any]:
    draft = options.target / _DRAFTS / uuid.uuid4().hex
    book = str(options.target / _BOOK) if options.profile.codes is CodePolicy.RANDOM else ""
    try:
        clean = await sandbox.call(os.fsencode(file), str(draft), options.toml, options.key, book, options.source_clean)
    except FetalMLOpsError as error:
        draft.unlink(missing_ok=True)
        return {
            "mark": mark,
            "reason": reason_of(error),
            "message": str(error),
            "actions": {},
            "pixel_action": "",
            "place": "",
        }
    place = options.target / clean.place
    place.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(place)
    return {"mark": mark, "reason": "", "message": "", "actions": clean.actions, "pixel_action": clean.pixel_action,
            "place": clean.place}  # fmt: skip


def progress_bar(console: Console) -> Progress:
    """Return a bar that counts files."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def reason_of(error: FetalMLOpsError) -> str:
    """Return why a file failed: the reason of its refusal, or ``deadly`` or ``deadline`` for what it did to its child."""
    if isinstance(error, PermanentError):
        return error.reason
    return "deadly" if isinstance(error, DeadlyError) else "deadline"


def _mark(file: Path, options: RunOptions) -> str:
    """Return what names a file, its state and the rules: the same work is not done twice, and the journal names no file."""
    state = file.stat()
    parts = (
        str(file.resolve()),
        state.st_size,
        state.st_mtime_ns,
        options.profile.digest,
        options.source_clean,
        *options.key,
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _journal(path: Path) -> dict[str, dict[str, Any]]:
    """Return the outcomes of earlier runs by mark; a line that a kill has torn is passed over."""
    found = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            outcome = json.loads(line)
        except ValueError:
            continue
        found[outcome["mark"]] = outcome
    return found


def _append(journal: Any, outcome: dict[str, Any]) -> None:
    journal.write(b"\n" + json.dumps(outcome).encode() + b"\n")
    journal.flush()


def _still_holds(outcome: dict[str, Any], target: Path) -> bool:
    return not outcome["place"] or (target / outcome["place"]).exists()
