"""``fetalmlops schemas``: write the generated contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fetalmlops import __version__
from fetalmlops.domain.contracts.schemas import schema_files

__all__ = ["schemas"]


def schemas(
    folder: Annotated[Path, typer.Argument(help="Where to write the files.")] = Path("schemas"),
    *,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file is not current.")] = False,
) -> None:
    """Write the JSON Schemas of the events and the AsyncAPI document of the topics."""
    files = schema_files(__version__)
    stale = [
        name
        for name, text in files.items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != text
    ]
    if check and stale:
        typer.echo(
            f"Expected current files in {folder}, got stale ones: {', '.join(stale)}; run fetalmlops schemas", err=True
        )
        raise typer.Exit(1)
    if not check:
        folder.mkdir(parents=True, exist_ok=True)
        for name in stale:
            (folder / name).write_text(files[name], "utf-8")
    typer.echo(f"{len(files)} files, {len(stale)} {'stale' if check else 'written'}")
