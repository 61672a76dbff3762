"""``fetalmlops results``: the current results, as they come."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import InstanceClassified
from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED
from fetalmlops.domain.errors import TransientError
from fetalmlops.domain.operations.results import CurrentResults
from fetalmlops.platform.bus import read_events
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from fetalmlops.platform.settings import Settings

__all__ = ["results"]

_SHORT = 8
_RETRY_S = 0.5
_NUMBERS = frozenset({"confidence", "frame", "ms"})
_STYLES = {"accept": "green", "review": "yellow", "out_of_scope": "red", "not_applicable": "dim"}


def results(
    *,
    study: Annotated[str, typer.Option(help="Only studies whose pseudonym begins with this.")] = "",
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%S"], metavar="TIME", help="Only results from this time (UTC) on."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with results as they come, until interrupted.")
    ] = False,
    expect: Annotated[int, typer.Option(min=0, help="Wait until so many results are current, for the broker too.")] = 0,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for --expect.")] = 60.0,
    last: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line: the event and its ce_id.")
    ] = False,
) -> None:
    """Show the current results: repeated and superseded ones are left out."""
    begin_ms = round(since.replace(tzinfo=UTC).timestamp() * 1000) if since else 0
    view = _Json(study, begin_ms) if as_json else _LiveTable(study, begin_ms, last)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(load_settings(), view, follow=follow or expect > 0, expect=expect, timeout=timeout))
    view.close()
    if expect and len(view.current) < expect:
        Console(stderr=True).print(
            f"Expected {expect} current results within {timeout:.0f} s, got {len(view.current)}; see fetalmlops status"
        )
        raise typer.Exit(1)


async def _watch(settings: Settings, view: _View, *, follow: bool, expect: int, timeout: float) -> None:
    if not expect:
        await _read(settings, view, follow=follow)
        return
    away: TransientError | None = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    await _read(settings, view, follow=True, expect=expect)
                except TransientError as error:
                    if away is None:
                        Console(stderr=True).print("The broker does not answer; waiting for it")
                    away = error
                    await asyncio.sleep(_RETRY_S)
                else:
                    return
    except TimeoutError:
        if away and not view.current:
            raise away from None


async def _read(settings: Settings, view: _View, *, follow: bool, expect: int = 0) -> None:
    """Show results up to so many current ones; read again, what is current already is not shown twice."""
    async for record, result in read_events(settings.kafka, INSTANCE_CLASSIFIED, InstanceClassified, follow=follow):
        view.take(record, result)
        if expect and len(view.current) >= expect:
            return


class _View:
    def __init__(self, study: str, begin_ms: int) -> None:
        self.current = CurrentResults()
        self._study = study
        self._begin_ms = begin_ms

    def take(self, record: ConsumerRecord, result: InstanceClassified) -> None:
        if record.timestamp < self._begin_ms:
            return
        event_id = Envelope.from_headers(record.headers).id
        if result.context.study.startswith(self._study) and self.current.add(event_id, result):
            self.show(event_id, result)

    def show(self, event_id: str, result: InstanceClassified) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Leave the terminal as it should stay."""


class _Json(_View):
    def show(self, event_id: str, result: InstanceClassified) -> None:
        typer.echo(msgspec.json.encode({"ce_id": event_id, **msgspec.to_builtins(result)}).decode())


class _LiveTable(_View):
    def __init__(self, study: str, begin_ms: int, last: int) -> None:
        super().__init__(study, begin_ms)
        self._last = last
        self._live = Live(console=Console(), auto_refresh=False)
        self._live.start()

    def show(self, event_id: str, result: InstanceClassified) -> None:  # noqa: ARG002 - the table shows all that are current
        self._live.update(_table(self.current, self._last), refresh=True)

    def close(self) -> None:
        self._live.update(_table(self.current, self._last), refresh=True)
        self._live.stop()


def _table(current: CurrentResults, last: int) -> Table:
    rows = list(current)
    table = Table(
        box=None,
        pad_edge=False,
        header_style="dim",
        title=f"{len(rows)} current results",
        title_justify="left",
        caption="demonstration model: not for clinical use" if _demonstration(rows) else None,
        caption_justify="left",
    )
    shown = rows[-last:]
    reasons = any(result.reasons for result in shown)
    for column in (
        "study",
        "instance",
        "plane",
        "confidence",
        "decision",
        "frame",
        "ms",
        *(("why",) if reasons else ()),
    ):
        table.add_column(column, justify="right" if column in _NUMBERS else "left", no_wrap=column != "why")
    for result in shown:
        table.add_row(
            result.context.study[:_SHORT],
            result.context.instance[:_SHORT],
            _plane(result),
            "" if result.confidence is None else f"{result.confidence:.3f}",
            Text(result.decision, style=_STYLES.get(result.decision, "")),
            str(result.best_frame or ""),
            f"{result.measured.since_arrival_ms:.0f}",
            *((", ".join(result.reasons),) if reasons else ()),
        )
    return table


def _plane(result: InstanceClassified) -> str:
    if result.plane == Plane.BRAIN and result.brain_plane:
        return f"{result.plane}: {result.brain_plane}"
    return result.plane or ""


def _demonstration(rows: list[InstanceClassified]) -> bool:
    return any(result.release_status == "demonstration" for result in rows)
