"""``fetalmlops setup``, ``up`` and ``down``: the embedded system on one machine."""

from __future__ import annotations

import shutil
import time
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED
from fetalmlops.platform.embedded import EmbeddedError, EmbeddedSystem
from fetalmlops.platform.embedded.files import disk_errors
from fetalmlops.platform.embedded.jars import KAFKA_VERSION, fetch_jars
from fetalmlops.platform.embedded.kafka import java_program
from fetalmlops.platform.embedded.programs import OPTIONAL, PROGRAMS, chosen_programs
from fetalmlops.platform.embedded.valkey import valkey_program
from fetalmlops.platform.settings import home_folder, load_settings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fetalmlops.platform.settings import Settings

__all__ = ["down", "setup", "up"]

_READY = "ready"
_out = Console(highlight=False)


def setup(
    *,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", exists=True, file_okay=False, help="Folder with Kafka's jars, for a machine without internet."
        ),
    ] = None,
) -> None:
    """Download what is needed, once: Apache Kafka's jars, checked against committed sums, into the user's cache."""
    with _out.status(f"Fetching Apache Kafka {KAFKA_VERSION} (45 MB, once)"):
        folder = fetch_jars(source)
    _out.print(f"Kafka   {folder}")
    _out.print(f"Java    {java_program()}")
    _out.print(f"Valkey  {valkey_program()}")
    _out.print("Set up. Next: [bold]fetalmlops up[/]")


def up(
    processes: Annotated[list[str] | None, typer.Argument(help="Only these; default: all.", show_default=False)] = None,
) -> None:
    """Start everything on this machine, and wait until it is ready; harmless to repeat."""
    system = EmbeddedSystem(home_folder())
    names = _known(processes) or chosen_programs(load_settings(system.layout.home))
    began = time.monotonic()
    with _Progress(names) as progress:
        settings = system.up(names, report=progress.report, before_services=_provide_model)
    seconds = time.monotonic() - began
    started = progress.started
    if not started:
        _out.print(f"It runs already, all of it ready. State folder: {system.layout.home}")
    else:
        _out.print(f"Ready after {seconds:.1f} s. State folder: {system.layout.home}")
    if "listener" in names:
        _print_address(settings, names)


def down(
    processes: Annotated[list[str] | None, typer.Argument(help="Only these; default: all.", show_default=False)] = None,
    *,
    purge: Annotated[
        bool, typer.Option("--purge", help="Then delete the state folder: events, objects and keys.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Stop everything, after what is in work is done."""
    system = EmbeddedSystem(home_folder())
    if names := _known(processes):
        system.stop(*names)
        _out.print(f"Stopped: {', '.join(names)}.")
        return
    with _out.status("Stopping"):
        ran = system.down()
    _out.print("Stopped." if ran else f"Nothing ran. State folder: {system.layout.home}")
    if purge and system.layout.exists():
        question = f"Delete {system.layout.home} with every event, object and key? Pseudonyms cannot be made again"
        if not yes and not typer.confirm(question):
            raise typer.Exit(1)
        with disk_errors(system.layout.home):
            shutil.rmtree(system.layout.home)
        _out.print(f"Deleted {system.layout.home}.")


def _known(names: list[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(names or ()) - {*PROGRAMS, *OPTIONAL})
    if unknown:
        msg = f"Expected processes among {', '.join(PROGRAMS + OPTIONAL)}, got {', '.join(unknown)}"
        raise EmbeddedError(msg)
    return tuple(names or ())


def _provide_model(settings: Settings) -> None:
    """Promote the bundled model where none serves yet."""
    # Imported late: it brings the object store, of which `setup` and `down` have no need.
    from fetalmlops.cli.provision import provide_model

    provide_model(settings)


def _print_address(settings: Settings, names: tuple[str, ...]) -> None:
    listener = settings.listener
    _out.print(
        f"Send DICOM to  [bold]{listener.ae_title}[/] at [bold]{listener.host}:{listener.port}[/]  (C-ECHO, C-STORE)"
    )
    _out.print(
        f"Subscribe to   [bold]{INSTANCE_CLASSIFIED.name}[/] at [bold]{settings.kafka.bootstrap_servers}[/]  (Kafka)"
    )
    if "gateway" in names:
        gateway = settings.gateway
        scheme = "https" if gateway.tls.enabled else "http"
        _out.print(f"Post files to  [bold]{scheme}://{gateway.host}:{gateway.port}/v1/classifications[/]  (REST)")
    _out.print("Next: [bold]fetalmlops simulate[/], [bold]fetalmlops results --follow[/], [bold]fetalmlops status[/]")


class _Progress:
    """One line a process: a spinner until it is ready; plain lines where nobody watches."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._states = dict.fromkeys(names, "")
        self._spinner = Spinner("dots")
        self._live = Live(get_renderable=self._render, console=_out, transient=False)
        self.started: set[str] = set()

    def __enter__(self) -> Self:
        if _out.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if _out.is_terminal:
            self._live.stop()

    def report(self, name: str, state: str) -> None:
        """Take a step that the system reports."""
        if state == "starting":
            self.started.add(name)
        self._states[name] = state
        if not _out.is_terminal:
            _out.print(f"{name}: {state}")

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, state in self._states.items():
            mark: RenderableType = (
                Text("✓", style="green") if state == _READY else self._spinner if state else Text("·")
            )
            table.add_row(mark, name, Text(state or "not yet", style="" if state else "dim"))
        return table
