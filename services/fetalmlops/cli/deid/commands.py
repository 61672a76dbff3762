"""``fetalmlops deid``: de-identification outside the stream, and what it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tomli_w
import typer
from pydicom.datadict import dictionary_description, tag_for_keyword
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from fetalmlops.cli.deid.run import RunOptions, report_of, run_folder
from fetalmlops.cli.deid.survey import SurveyOptions, survey_folder
from fetalmlops.cli.deid.survey_page import survey_page, survey_table
from fetalmlops.domain.deid import PROFILES, Profile
from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
from fetalmlops.domain.deid.pixels.proposals import propose_profile, read_screen
from fetalmlops.domain.deid.rules.explain import explain as explain_attribute
from fetalmlops.domain.deid.rules.profile import CodePolicy, packaged_profile, read_profile
from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.platform.deid.keys import load_pseudonym_key
from fetalmlops.platform.dicom.decoding import configure
from fetalmlops.platform.dicom.devices import read_device_profiles
from fetalmlops.platform.dicom.storescu import find_files
from fetalmlops.platform.files import OWNER_ONLY, replace_file
from fetalmlops.platform.settings import load_settings

__all__ = ["app"]


class _RunByDefault(TyperGroup):
    """Takes ``deid IN OUT`` for ``deid run IN OUT``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name where it was left out."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_RunByDefault, no_args_is_help=True, help="De-identify files, and see what is done to what.")

_TAG_DIGITS = 8
_REFUSED = 3
_INTERRUPTED = 130


@app.command()
def explain(
    profile: Annotated[str, typer.Argument(help="Name of a profile that comes with the package, or a TOML file.")],
    tag: Annotated[str, typer.Argument(help="An attribute: a keyword, or a tag such as 0010,0010.")],
) -> None:
    """Say what happens to an attribute, and why."""
    chosen, number = find_profile(profile), _tag(tag)
    found = explain_attribute(chosen, number)
    table = Table(show_header=False, box=None)
    table.add_row("attribute", f"({number >> 16:04X},{number & 0xFFFF:04X}) {_name(number)}")
    table.add_row("profile", f"{chosen.name} {chosen.version}")
    table.add_row("is", found.fate.value)
    table.add_row("how", found.how)
    table.add_row("PS3.15", found.standard)
    Console().print(table)


@app.command()
def run(
    source: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of DICOM files.")],
    target: Annotated[
        Path, typer.Argument(file_okay=False, help="Folder for the clean ones; what is there already stays.")
    ],
    profile: Annotated[str, typer.Option(help="Name of a profile, or a TOML file.")] = "research",
    report: Annotated[Path | None, typer.Option(help="Where to write the report, as JSON.")] = None,
    source_clean: Annotated[
        bool, typer.Option("--source-clean", help="The source burns nothing in: keep all pixels.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Files at once.")] = 2,
) -> None:
    """De-identify a folder, or go on where it was broken off: ``fetalmlops deid IN OUT`` for short."""
    chosen = find_profile(profile)
    options = RunOptions(
        target=target,
        profile=chosen,
        toml=profile_file(profile),
        key=_key(chosen),
        source_clean=source_clean,
        workers=workers,
    )
    done = run_folder(source, find_files([source]), options, Console(stderr=True))
    if report is not None:
        replace_file(report, _encoded(report_of(done, options)))
    table = Table("files", "ended as")
    for name, count in done.counts.most_common():
        table.add_row(str(count), name)
    Console().print(table)
    if done.resumed:
        Console().print(f"{done.resumed} of them by an earlier run")
    raise typer.Exit(0 if set(done.counts) <= {"clean"} else _REFUSED)


@app.command()
def survey(
    path: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of any files.")],
    profile: Annotated[str, typer.Option(help="Name of a profile, or a TOML file.")] = "stream",
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Where to write the page, with masked previews.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Where to write the same facts as JSON.")
    ] = None,
    devices: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of device profiles that you have already.")
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Look for text in what would be kept: about half a second an image.")
    ] = False,
    paths: Annotated[
        bool, typer.Option("--paths", help="Name in the JSON the files that would be refused: paths may hold names.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Files at once.")] = 2,
) -> None:
    """Say what a folder of files would come to, scanner by scanner, before anything is turned on; nothing is changed."""
    options = SurveyOptions(
        profile=find_profile(profile),
        toml=profile_file(profile),
        devices=read_device_profiles(devices) if devices else DeviceProfiles(),
        text=text,
        paths=paths,
        jobs=jobs,
    )
    for target in (html, as_json):
        _check_target(target, path)
    done = survey_folder(path, list(find_files([path])), options, Console(stderr=True))
    report = done.report(options)
    if html is not None:
        replace_file(html, survey_page(report, done.looks).encode(), OWNER_ONLY)
    if as_json is not None:
        replace_file(as_json, _encoded(report), OWNER_ONLY)
    survey_table(report, Console())
    raise typer.Exit(_INTERRUPTED if done.interrupted else 0)


@app.command("device-profile")
def device_profile(
    images: Annotated[
        list[Path], typer.Argument(help="DICOM images of one scanner: different patients and views.", exists=True)
    ],
    out: Annotated[Path, typer.Option(help="The file to write; its name becomes that of the profile.")],
) -> None:
    """Propose where the picture is on a scanner's screen; look at it, then put it into the folder devices."""
    if out.exists():
        msg = f"Expected {out} not to exist, got a file; choose another name, or remove it"
        raise ContractError(msg)
    configure()
    screens = []
    for path in images:
        with path.open("rb") as file:
            screens.append(read_screen(file))
    profile = propose_profile(screens, out.stem)
    out.write_text(tomli_w.dumps(msgspec.to_builtins(profile)), "utf-8")
    x0, y0, x1, y1 = profile.rectangles[0]
    typer.echo(f"{out}: keeps columns {x0} to {x1 - 1} and rows {y0} to {y1 - 1}. Make sure that no text stands there.")


@app.command()
def profiles() -> None:
    """List the profiles that come with the package."""
    table = Table("name", "version", "dates", "options", "purpose")
    for profile in PROFILES.values():
        table.add_row(profile.name, str(profile.version), profile.dates, "\n".join(profile.options), profile.purpose)
    Console().print(table)


def find_profile(name: str) -> Profile:
    """Return a profile by its name or its file.

    Raises
    ------
    SettingsError
        If there is none, or the file is none.
    """
    return read_profile(profile_file(name))


def profile_file(name: str) -> bytes:
    """Return the TOML of a profile that comes with the package, or of a file. Raises as `find_profile`."""
    if name in PROFILES:
        return packaged_profile(name)
    try:
        return Path(name).read_bytes()
    except OSError:
        known = ", ".join(PROFILES)
        msg = f"Expected a profile among {known}, or a TOML file, got neither; see fetalmlops deid profiles"
        raise SettingsError(msg) from None


def _key(profile: Profile) -> tuple[str, str]:
    if profile.codes is CodePolicy.RANDOM:
        return "", ""
    key = load_pseudonym_key(load_settings())
    return key.project, key.secret.hex()


def _check_target(target: Path | None, source: Path) -> None:
    """Refuse, before hours of work, what could not be written after them, or would change the folder that is looked at."""
    if target is None:
        return
    if source.resolve() in target.resolve().parents:
        msg = "Expected a report outside the folder that is surveyed, got one within; name another place"
        raise SettingsError(msg)
    if not target.resolve().parent.is_dir():
        msg = "Expected a report in a folder that exists, got none; make the folder first"
        raise SettingsError(msg)


def _encoded(report: dict[str, Any]) -> bytes:
    return (json.dumps(report, indent=2) + "\n").encode()


def _tag(text: str) -> int:
    digits = "".join(char for char in text if char.isalnum())
    known = tag_for_keyword(text)
    if known is not None:
        return int(known)
    try:
        if len(digits) == _TAG_DIGITS:
            return int(digits, 16)
    except ValueError:
        pass
    msg = "Expected the keyword of an attribute, or a tag such as 0010,0010; got neither"
    raise typer.BadParameter(msg)


def _name(tag: int) -> str:
    try:
        return str(dictionary_description(tag))
    except KeyError:
        return "private" if tag >> 16 & 1 else "not in the dictionary"
