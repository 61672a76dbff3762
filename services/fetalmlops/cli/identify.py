"""``fetalmlops identify``: the identity behind a pseudonym, recorded in the audit before it is shown."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fetalmlops.domain.contracts.events import AuditRecorded
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform import audit
from fetalmlops.platform.keys import load_pseudonym_key, load_vault_keys
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.settings import load_settings
from fetalmlops.platform.vault import ValkeyVault

if TYPE_CHECKING:
    from fetalmlops.platform.settings import Settings

__all__ = ["identify", "require_pseudonym", "require_reason"]

_PSEUDONYM = re.compile("[0-9a-f]{32}")


def identify(
    pseudonym: Annotated[str, typer.Argument(help="Pseudonym of a patient, a study or an instance.")],
    *,
    reason: Annotated[str, typer.Option(help="Why, for the record. Do not name the patient here.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the identity as JSON.")] = False,
) -> None:
    """Show who is behind a pseudonym. Your account, the pseudonym and the reason are recorded first, found or not."""
    require_pseudonym(pseudonym)
    require_reason(reason)
    found = asyncio.run(_identify(load_settings(), pseudonym, reason))
    if not found:
        msg = "Expected a pseudonym of the vault, got one that it does not hold; the attempt was recorded"
        raise FetalMLOpsError(msg)
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("of", "what", "value", title=f"Identity of {pseudonym}")
    for kind, values in found.items():
        for name, value in values.items():
            table.add_row(kind, name, Text(str(value)))
    Console().print(table)


def require_pseudonym(pseudonym: str) -> None:
    """Refuse what is no pseudonym, without quoting it: it may be an identifier."""
    if not _PSEUDONYM.fullmatch(pseudonym):
        msg = (
            "Expected a pseudonym of 32 hexadecimal digits, got another text; take one from fetalmlops results or trace"
        )
        raise typer.BadParameter(msg)


def require_reason(reason: str) -> None:
    """Refuse an empty reason."""
    if not reason.strip():
        msg = "Expected a reason for the record, got none; say why with --reason"
        raise typer.BadParameter(msg)


async def _identify(settings: Settings, pseudonym: str, reason: str) -> dict[str, dict[str, Any]]:
    key, ring = load_pseudonym_key(settings), load_vault_keys(settings)
    valkey = open_valkey(settings)
    vault = ValkeyVault(valkey, ring, key.project, reload=lambda: load_vault_keys(settings))
    try:
        await vault.verify(key.fingerprint)
        found = await _read(vault, pseudonym)
    finally:
        await valkey.aclose()
    entry = AuditRecorded(
        process="cli",
        actor=getpass.getuser(),
        action="identify",
        subject=pseudonym,
        outcome="granted" if found else "not-found",
        reason=reason,
    )
    await audit.record(settings, entry)
    return found


async def _read(vault: ValkeyVault, pseudonym: str) -> dict[str, dict[str, Any]]:
    """Return the entry of a pseudonym, and of what it belongs to. A study may stand in for a patient without an id."""
    instance = await vault.instance(pseudonym)
    study = await vault.study(instance.study if instance else pseudonym)
    patient = await vault.patient(study.patient if study else pseudonym)
    found = {"patient": patient, "study": study, "instance": instance}
    return {kind: msgspec.to_builtins(value) for kind, value in found.items() if value}
