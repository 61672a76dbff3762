"""Commands that are imported when they are run: ``fetalmlops --help`` must not wait for Kafka's and DICOM's libraries."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fetalmlops.domain.errors import FetalMLOpsError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXIT_CONFIGURATION", "EXIT_FAILURE", "LazyCommand", "LazyGroup"]

EXIT_FAILURE = 1
"""Exit code of a command that failed."""

EXIT_CONFIGURATION = 78
"""Exit code (EX_CONFIG) of a command that settings or keys kept from working."""


@dataclass(frozen=True)
class LazyCommand:
    """A command that is not imported yet.

    Parameters
    ----------
    target
        ``module:attribute`` of a function, or of a `typer.Typer` with commands of its own.
    summary
        Its line in the list of commands.
    panel
        Under which heading it is listed.
    """

    target: str
    summary: str
    panel: str

    def load(self, name: str) -> Any:
        """Import the command under a name."""
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            command: Any = typer.main.get_group(found)
        else:
            holder = typer.Typer(add_completion=False)
            holder.command(name)(found)
            command = typer.main.get_command(holder)
        command.name = name
        return command


class LazyGroup(TyperGroup):
    """A group whose commands stand in `table`; an error raised on purpose becomes one line and an exit code."""

    table: Mapping[str, LazyCommand] = {}

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, entry in self.table.items():
            self.add_command(TyperCommand(name, short_help=entry.summary, rich_help_panel=entry.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is about to run."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = self.table.get(name or "")
        return (name, entry.load(name), rest) if name and entry else (name, command, rest)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FetalMLOpsError as error:
            if ctx.params.get("debug"):
                raise
            sys.stderr.write(f"{error}\n")
            raise typer.Exit(EXIT_CONFIGURATION if isinstance(error, SettingsError) else EXIT_FAILURE) from error
