"""``fetalmlops classify``: files and folders to planes, without any server."""

from __future__ import annotations

import asyncio
import csv
import os
import sys
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fetalmlops.cli.classify_child import FileResult
from fetalmlops.cli.lazy import EXIT_FAILURE
from fetalmlops.domain.contracts.events import Quality
from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, Plane
from fetalmlops.domain.errors import FetalMLOpsError, SettingsError
from fetalmlops.platform.dicom.storescu import find_files
from fetalmlops.platform.inference.bundles import FETAL_PLANES, open_bundle
from fetalmlops.platform.sandbox.parent import Sandbox
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["BundleOption", "classify"]

_WORKERS: Final = 2
_MEMORY: Final = 4 << 30
_TIMEOUT_S: Final = 120.0
_STYLES: Final = {"accept": "green", "review": "yellow", "out_of_scope": "red"}
_NOT_AVAILABLE: Final = "not available"

BundleOption = Annotated[
    str, typer.Option("--bundle", metavar="B", help="Bundle: a name of `fetalmlops bundle list`, or a folder.")
]
"""The option that names a bundle, for every command that takes one."""


class FileError(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a file that cannot be classified."""

    path: str
    error: str


def classify(
    *,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="PNG, JPEG and DICOM files, or folders of them.")
    ],
    bundle: BundleOption = FETAL_PLANES,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Classify files: pixels in, planes out. It de-identifies nothing and writes nothing.

    Of a DICOM file only what its pixels need is read. Results name files by the paths that were given. The exit code is 1 if
    any file could not be classified; all others are.
    """
    if as_json and as_csv:
        msg = "Expected --json or --csv, got both; leave one out"
        raise SettingsError(msg)
    files = list(find_files(paths))
    if not files:
        msg = "Expected files to classify, got folders without any; name others"
        raise SettingsError(msg)
    home = load_settings().home
    # Here too, so that a bundle that cannot be served is one error and not one a file.
    status = open_bundle(home, bundle).manifest.release_status
    view = _JsonLines() if as_json else _Csv() if as_csv else _Rows(status)
    failed = asyncio.run(_run(files, str(home), bundle, view))
    view.close()
    if failed:
        raise typer.Exit(EXIT_FAILURE)


async def _run(files: list[Path], home: str, bundle: str, view: _View) -> int:
    failed = 0
    async for outcome in _outcomes(files, home, bundle):
        failed += isinstance(outcome, FileError)
        view.show(outcome)
    return failed


async def _outcomes(files: list[Path], home: str, bundle: str) -> AsyncIterator[FileResult | FileError]:
    """Yield the outcomes in the order of the files, two files being worked on at a time."""
    workers = min(_WORKERS, len(files))
    sandbox: Sandbox[FileResult] = Sandbox(
        "fetalmlops.cli.classify_child:classify_file",
        FileResult,
        initializer="fetalmlops.cli.classify_child:start",
        workers=workers,
        memory_bytes=_MEMORY,
        timeout=_TIMEOUT_S,
    )

    async def one(file: Path) -> FileResult | FileError:
        shown = os.fsencode(file).decode("utf-8", "replace")
        try:
            return await sandbox.call(os.fsencode(file), shown, home, bundle)
        except FetalMLOpsError as error:
            return FileError(path=shown, error=str(error))

    async with sandbox:
        ahead = [asyncio.create_task(one(file)) for file in files[:workers]]
        for file in [*files[workers:], *[None] * len(ahead)]:
            yield await ahead.pop(0)
            if file is not None:
                ahead.append(asyncio.create_task(one(file)))


class _View:
    def show(self, outcome: FileResult | FileError) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Print what is left."""


class _JsonLines(_View):
    def show(self, outcome: FileResult | FileError) -> None:
        typer.echo(msgspec.json.encode(outcome).decode())


class _Csv(_View):
    def __init__(self) -> None:
        self._quality = Quality.__struct_fields__
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        brain = (f"brain_{label}" for label in BRAIN_PLANES)
        self._writer.writerow(["path", "plane", *PLANES, *brain, "decision", "ood_score", *self._quality, "error"])

    def show(self, outcome: FileResult | FileError) -> None:
        if isinstance(outcome, FileError):
            blanks = [""] * (len(PLANES) + len(BRAIN_PLANES) + len(self._quality) + 3)
            self._writer.writerow([_cell(outcome.path), *blanks, outcome.error])
            return
        brain = outcome.brain_probabilities or {}
        self._writer.writerow(
            [
                _cell(outcome.path),
                outcome.plane,
                *(outcome.probabilities[label] for label in PLANES),
                *(brain.get(label, _NOT_AVAILABLE) for label in BRAIN_PLANES),
                outcome.decision,
                _NOT_AVAILABLE if outcome.ood_score is None else outcome.ood_score,
                *(getattr(outcome.quality, name) for name in self._quality),
                "",
            ]
        )


class _Rows(_View):
    def __init__(self, status: str) -> None:
        caption = f"{status} bundle: not for clinical use" if status != "validated" else None
        self._table = Table(box=None, pad_edge=False, header_style="dim", caption=caption, caption_justify="left")
        for column in ("file", "plane", "probability", "decision", "out-of-scope score"):
            right = column in ("probability", "out-of-scope score")
            self._table.add_column(column, justify="right" if right else "left", overflow="fold")

    def show(self, outcome: FileResult | FileError) -> None:
        if isinstance(outcome, FileError):
            self._table.add_row(
                Text(outcome.path), Text(outcome.error, style="red"), "", Text("error", style="red"), ""
            )
            return
        self._table.add_row(
            Text(outcome.path),
            _plane(outcome),
            f"{outcome.probabilities[outcome.plane]:.3f}",
            Text(outcome.decision, style=_STYLES.get(outcome.decision, "")),
            _NOT_AVAILABLE if outcome.ood_score is None else f"{outcome.ood_score:.2f}",
        )

    def close(self) -> None:
        Console().print(self._table)


def _plane(outcome: FileResult) -> str:
    brain = outcome.brain_probabilities
    if outcome.plane != Plane.BRAIN or not brain:
        return outcome.plane
    return f"{outcome.plane}: {max(brain, key=brain.__getitem__)}"


def _cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
