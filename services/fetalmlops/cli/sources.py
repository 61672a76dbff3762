"""``fetalmlops sources``: the systems that may send, and whether they can be reached."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.contracts.planes import Lane, Purpose
from fetalmlops.domain.contracts.sources import PixelTrust, Source
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.dicom.sources import add_source, read_sources
from fetalmlops.platform.settings import load_settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List, add and test the systems that may send.")


@app.command("list")
def list_sources(*, as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False) -> None:
    """Show the sources table."""
    sources = read_sources(load_settings().sources_file)
    if as_json:
        entries = [msgspec.to_builtins(source) for source in sources.entries]
        typer.echo(json.dumps({"sources": entries, "unlisted": sources.unlisted.value}))
        return
    table = Table("id", "AE title", "addresses", "site", "purpose", "lane", "pixels", "C-ECHO to")
    for source in sources.entries:
        addresses = ", ".join(source.addresses) or "any"
        place = f"{source.host}:{source.port}" if source.host else "-"
        words = (source.purpose.value, source.lane.value, source.pixels.value)
        table.add_row(source.id, source.ae_title, addresses, source.site, *words, place)
    Console().print(table, f"Callers that are not listed: {sources.unlisted.value}")


@app.command("add")
def add(
    source_id: Annotated[str, typer.Argument(metavar="ID", help="Its name in every event, such as room-3.")],
    ae_title: Annotated[str, typer.Option(help="Its calling AE title.")],
    site: Annotated[str, typer.Option(help="Where it stands, such as north-wing.")],
    address: Annotated[
        list[str] | None, typer.Option(help="IP address or network that it calls from; may be repeated. Default: any.")
    ] = None,
    purpose: Annotated[str, typer.Option(help="clinical or research.")] = Purpose.CLINICAL.value,
    lane: Annotated[str, typer.Option(help="live or bulk.")] = Lane.LIVE.value,
    pixels: Annotated[
        str,
        typer.Option(help="validate; regions if names stand outside the picture only; clean if nothing is burned in."),
    ] = PixelTrust.VALIDATE.value,
    host: Annotated[str, typer.Option(help="Where it answers C-ECHO itself.")] = "",
    port: Annotated[int, typer.Option(help="Port of that.")] = 104,
    *,
    tls: Annotated[bool, typer.Option("--tls", help="Whether that needs TLS.")] = False,
    quiet_time: Annotated[
        float, typer.Option(help="Silence of a study, in seconds, after which it counts as complete.")
    ] = 60.0,
) -> None:
    """Add a system that may send; it counts at once."""
    path = load_settings().sources_file
    values = {
        "id": source_id,
        "ae_title": ae_title,
        "addresses": address or [],
        "site": site,
        "purpose": purpose,
        "lane": lane,
        "pixels": pixels,
        "host": host,
        "port": port,
        "tls": tls,
        "quiet_time_s": quiet_time,
    }
    try:
        source = msgspec.convert(values, Source)
    except msgspec.ValidationError as error:
        msg = f"Expected a valid source, got an error: {error}; see `fetalmlops sources add --help`"
        raise SettingsError(msg) from None
    add_source(path, source)
    typer.echo(f"added {source_id} to {path}")


@app.command("test")
def test(source_id: Annotated[str, typer.Argument(metavar="ID", help="Its id in the table.")]) -> None:
    """Send a C-ECHO back to a source, under our AE title."""
    # Its DICOM library takes a while to import, and only this command needs it.
    from fetalmlops.platform.dicom.echo import echo_back

    settings = load_settings()
    sources = read_sources(settings.sources_file)
    source = sources.get(source_id)
    if source is None:
        known = ", ".join(entry.id for entry in sources.entries) or "none"
        msg = f"Expected a source of the table, got another id; listed: {known}"
        raise SettingsError(msg)
    seconds = echo_back(source, settings.listener)
    typer.echo(f"{source.ae_title} at {source.host}:{source.port} answered in {seconds * 1000:.0f} ms")
