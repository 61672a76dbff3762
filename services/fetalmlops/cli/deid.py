"""``fetalmlops deid``: make and look at what de-identification goes by."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import Annotated

import msgspec
import tomli_w
import typer

from fetalmlops.domain.deid.proposals import propose_profile, read_screen
from fetalmlops.domain.errors import ContractError
from fetalmlops.platform.dicom.decoding import configure

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make what de-identification goes by.")


@app.callback()
def _deid() -> None:
    """Make what de-identification goes by."""


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
