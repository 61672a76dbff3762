"""``fetalmlops promote``, ``rollback`` and ``retire``: which bundle serves, by a recorded person, after gates."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fetalmlops.cli import audited
from fetalmlops.cli.confirming import confirm
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.errors import ContractError, FetalMLOpsError, SettingsError
from fetalmlops.domain.learning.gates import GateStatus
from fetalmlops.domain.learning.promotion import evidence_gates, kpi_gates, replacement_gate
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference import promotion
from fetalmlops.platform.inference.bundles import find_bundle_files
from fetalmlops.platform.inference.evaluations import read_gates
from fetalmlops.platform.inference.technical import technical_gates
from fetalmlops.platform.learning.intended_use import open_intended_use
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fetalmlops.domain.contracts.events import ModelPromoted
    from fetalmlops.domain.learning.promotion import Gate
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.operations.promotions import Promoted
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings

__all__ = ["promote", "retire", "rollback"]

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_COLOURS: Final = {GateStatus.PASSED: "green", GateStatus.FAILED: "red", GateStatus.NOT_EVALUABLE: "yellow"}
_out = Console(highlight=False)

RoleOption = Annotated[Literal["champion", "shadow"], typer.Option(help="In which role.")]
Account = Annotated[str, typer.Option(help="Your account id, for the record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only go through the gates: nothing is recorded or promoted.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until the inference service serves it.")]


def promote(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="B", help="Name of `fetalmlops bundle list`, a folder, or the beginning of a stored digest."
        ),
    ],
    *,
    role: RoleOption = "champion",
    account: Account,
    reason: audited.Reason,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            metavar="REPORT.json", help="Report of `fetalmlops evaluate`, where the manifest lacks the figures."
        ),
    ] = None,
    dry_run: DryRun = False,
    wait: Wait = 30.0,
) -> None:
    """Let a bundle serve, after its gates. Your account and the reason are recorded first; refusals too.

    Every bundle passes the technical gates: digests, pipeline, engine, reference outputs, latency. A champion that is a
    candidate or validated also needs every floor of the intended use. A demonstration never replaces one of these.
    """
    person = _Person.of(account, reason)
    settings = load_settings()
    objects = open_objects(settings, Zone.CLEAN)
    opened = load_bundle(_find(settings, objects, bundle))
    wanted = _Wanted(opened, Role(role), evaluation)
    asyncio.run(_promote(settings, objects, wanted, person, dry_run=dry_run, wait_s=wait))


def rollback(
    *,
    role: RoleOption = "champion",
    account: Account,
    reason: audited.Reason,
    dry_run: DryRun = False,
    wait: Wait = 30.0,
) -> None:
    """Let the bundle serve again that had the role before. Your account and the reason are recorded first.

    It passes the technical gates again. Each further rollback goes one further back; `promote` goes forward.
    """
    person = _Person.of(account, reason)
    settings = load_settings()
    objects = open_objects(settings, Zone.CLEAN)
    before = promotion.read_history(objects).before(Role(role))
    if before is None:
        msg = f"Expected a {role} before the present one, got none; promote another, see `fetalmlops models history`"
        raise FetalMLOpsError(msg)
    event = before.event
    opened = load_bundle(promotion.fetch_bundle(objects, event.manifest), event.bundle_digest)
    wanted = _Wanted(opened, Role(role), back_to=before)
    asyncio.run(_promote(settings, objects, wanted, person, dry_run=dry_run, wait_s=wait))


def retire(*, account: Account, reason: audited.Reason) -> None:
    """End the shadow: none serves until another is promoted. Your account and the reason are recorded first."""
    person = _Person.of(account, reason)
    settings = load_settings()
    objects = open_objects(settings, Zone.CLEAN)
    current = promotion.read_history(objects).current(Role.SHADOW)
    if current is None:
        msg = "Expected a shadow to end, got none; see `fetalmlops models`"
        raise FetalMLOpsError(msg)
    asyncio.run(_retire(settings, objects, current.event, person))
    typer.echo(f"{_name(current.event)} is no shadow any more")


@dataclass(frozen=True)
class _Person:
    """Who asks, and why."""

    account: str
    reason: str

    @classmethod
    def of(cls, account: str, reason: str) -> _Person:
        audited.require_reason(reason)
        if not _ACCOUNT.fullmatch(account) or account == promotion.INSTALLATION:
            msg = "Expected the account id of a person, letters, digits and . _ @ + -, got another word; give yours"
            raise typer.BadParameter(msg)
        return cls(account, reason.strip())


@dataclass(frozen=True)
class _Wanted:
    """What is to be promoted: to which role, by which evaluation, or going back to which promotion."""

    bundle: Bundle
    role: Role
    evaluation: Path | None = None
    back_to: Promoted | None = None

    @property
    def action(self) -> str:
        return "roll-back-model" if self.back_to else "promote-model"


def _find(settings: Settings, objects: ObjectStore, name: str) -> Mapping[str, bytes]:
    try:
        return find_bundle_files(settings.home, name)
    except SettingsError as unknown:
        try:
            return promotion.fetch_stored(objects, name)
        except SettingsError as error:
            msg = f"{unknown}. Nor is it a stored one: {error}"
            raise SettingsError(msg) from None


async def _promote(
    settings: Settings, objects: ObjectStore, wanted: _Wanted, person: _Person, *, dry_run: bool, wait_s: float
) -> None:
    history = promotion.read_history(objects)
    current = history.current(wanted.role)
    gates = _gates(settings, wanted, current)
    _out.print(_table(gates))
    missed = [gate.name for gate in gates if not gate.holds]
    name = f"{wanted.bundle.manifest.name} {wanted.bundle.manifest.version}, digest {wanted.bundle.digest[:12]}"
    if dry_run:
        _out.print(f"{name} {'would be refused' if missed else f'would become {wanted.role}'}; nothing was changed")
        raise typer.Exit(1 if missed else 0)
    details = {
        "role": str(wanted.role),
        "replaces": current.event.bundle_digest if current else "",
        "missed": ", ".join(missed),
    }
    outcome = "refused" if missed else "granted"
    await audited.record(
        settings, wanted.action, wanted.bundle.digest, outcome, person.reason, account=person.account, **details
    )
    if missed:
        msg = f"Expected every gate to hold, got {', '.join(missed)} that did not; nothing changed but the record"
        raise ContractError(msg, reason="promotion")
    publisher = Publisher(settings.kafka, Health("cli"))
    try:
        made = await promotion.promote(
            wanted.bundle.files,
            role=wanted.role,
            actor=person.account,
            reason=person.reason,
            objects=objects,
            publisher=publisher,
            rollback=wanted.back_to is not None,
        )
    finally:
        await publisher.stop()
    instead = f", in place of {_name(current.event)}" if current else ""
    _out.print(f"{name} is {wanted.role} by record{instead}")
    if not await confirm(settings, made, wait_s, _out.print):
        raise typer.Exit(1)


async def _retire(settings: Settings, objects: ObjectStore, current: ModelPromoted, person: _Person) -> None:
    digest = current.bundle_digest
    await audited.record(
        settings, "retire-model", digest, "granted", person.reason, account=person.account, role=str(current.role)
    )
    publisher = Publisher(settings.kafka, Health("cli"))
    try:
        await promotion.retire(
            current, actor=person.account, reason=person.reason, objects=objects, publisher=publisher
        )
    finally:
        await publisher.stop()


def _gates(settings: Settings, wanted: _Wanted, current: Promoted | None) -> list[Gate]:
    use, use_digest = open_intended_use(settings)
    manifest = wanted.bundle.manifest
    gates = technical_gates(wanted.bundle, settings, use.budgets.latency_p95_ms)
    gates.append(replacement_gate(manifest, wanted.role, current.event.release_status if current else None))
    # What is rolled back to has served: its floors were gates then.
    if wanted.back_to is None:
        results = (
            read_gates(wanted.evaluation, wanted.bundle.digest, use_digest)
            if wanted.evaluation
            else evidence_gates(manifest, use)
        )
        gates += kpi_gates(manifest, wanted.role, results)
    return gates


def _table(gates: Iterable[Gate]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("gate", "outcome", "what was found"):
        table.add_column(column)
    for gate in gates:
        outcome = gate.status if gate.needed else f"{gate.status}, not needed"
        table.add_row(gate.name, Text(outcome, style=_COLOURS[gate.status] if gate.needed else "dim"), Text(gate.why))
    return table


def _name(event: ModelPromoted) -> str:
    return f"{event.model} {event.version}, digest {event.bundle_digest[:12]}"
