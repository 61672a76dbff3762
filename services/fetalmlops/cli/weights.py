"""``fetalmlops weights``: weights to begin training from."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.learning.weights import add_weights, is_safetensors, list_weights
from fetalmlops.platform.settings import load_settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Add and list weights to begin training from.")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="safetensors, or a torch state dict.")],
    *,
    name: Annotated[str, typer.Option(help="Its name from now on, for train --init.")],
    licence: Annotated[str, typer.Option(help="Its licence, such as Apache-2.0.")],
    source: Annotated[str, typer.Option(help="In words: who made it, from what data, and what to cite.")],
) -> None:
    """Add weights; a torch file is read without running any code of its own, and kept as safetensors."""
    original = file.read_bytes()
    data = original if is_safetensors(original) else _convert(file)
    record = add_weights(load_settings(), data, name=name, licence=licence, source=source, original=original)
    typer.echo(
        f"{record.name}: {len(record.tensors)} tensors, {record.parameters:,} numbers, {record.licence}, "
        f"digest {record.sha256[:12]}"
    )


@app.command("list")
def list_(
    *,
    shapes: Annotated[bool, typer.Option("--shapes", help="Show every tensor's type and shape.")] = False,
) -> None:
    """List the weights that were added."""
    table = Table("name", "tensors", "numbers", "licence", "source", "digest")
    records = list_weights(load_settings())
    for record in records:
        counts = (f"{len(record.tensors):,}", f"{record.parameters:,}")
        table.add_row(record.name, *counts, escape(record.licence), escape(record.source), record.sha256[:12])
    console = Console()
    console.print(table)
    for record in records if shapes else []:
        for name, entry in record.tensors.items():
            console.print(f"{record.name}  {escape(name)}  {entry.type} {escape(str(entry.shape))}", highlight=False)


def _convert(file: Path) -> bytes:
    try:
        from fetalmlops.training.weights import convert_state_dict
    except ModuleNotFoundError as error:
        msg = f"Expected torch to read a file that is no safetensors, got no {error.name}; pip install 'fetalmlops[train]'"
        raise SettingsError(msg) from None
    return convert_state_dict(file)
