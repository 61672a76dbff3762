"""``fetalmlops deid``: de-identification outside the stream, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydicom.datadict import dictionary_description, tag_for_keyword
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.deid import PROFILES, Profile
from fetalmlops.domain.deid.explain import explain as explain_attribute
from fetalmlops.domain.deid.profile import read_profile
from fetalmlops.domain.errors import SettingsError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="De-identify files, and see what is done to what.")

_TAG_DIGITS = 8


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
    if name in PROFILES:
        return PROFILES[name]
    try:
        data = Path(name).read_bytes()
    except OSError:
        msg = (
            f"Expected a profile among {', '.join(PROFILES)}, or a TOML file, got neither; see fetalmlops deid profiles"
        )
        raise SettingsError(msg) from None
    return read_profile(data)


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
