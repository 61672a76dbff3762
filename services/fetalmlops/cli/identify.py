"""``fetalmlops identify``: the identity behind a pseudonym, recorded in the audit before it is shown."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fetalmlops.cli import audited
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform.deid.keys import load_pseudonym_key, load_vault_keys
from fetalmlops.platform.deid.lookup import Original, find_original
from fetalmlops.platform.deid.vault import ValkeyVault
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.records import RecordCipher
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.platform.settings import Settings

__all__ = ["identify", "require_pseudonym"]

_PSEUDONYM = re.compile("[0-9a-f]{32}")
_KEYED_UID = re.compile(r"2\.25\.[0-9]{1,39}")


def identify(
    pseudonym: Annotated[
        str, typer.Argument(help="Pseudonym of a patient, a study or an instance, or a UID of a clean file.")
    ],
    *,
    reason: audited.Reason,
    as_json: Annotated[bool, typer.Option("--json", help="Print the identity as JSON.")] = False,
) -> None:
    """Show who is behind a pseudonym. Your account, the pseudonym and the reason are recorded first, found or not."""
    if not _KEYED_UID.fullmatch(pseudonym):
        require_pseudonym(pseudonym)
    audited.require_reason(reason)
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


async def _identify(settings: Settings, pseudonym: str, reason: str) -> dict[str, dict[str, Any]]:
    key, ring = load_pseudonym_key(settings), load_vault_keys(settings)
    valkey = open_valkey(settings)
    vault = ValkeyVault(valkey, ring, key.project, reload=lambda: load_vault_keys(settings))
    try:
        await vault.verify(key.fingerprint)
        if _KEYED_UID.fullmatch(pseudonym):
            original = await find_original(valkey, RecordCipher(ring, key.project), key.project, pseudonym)
            found = await _read_uid(vault, key, original) if original else {}
        else:
            found = await _read(vault, pseudonym)
    finally:
        await valkey.aclose()
    # A UID that leads nowhere may be an original one: only a pseudonym of it is recorded.
    subject = pseudonym if found or not _KEYED_UID.fullmatch(pseudonym) else key.instance(pseudonym)
    await audited.record(settings, "identify", subject, "granted" if found else "not-found", reason)
    return found


async def _read(vault: ValkeyVault, pseudonym: str) -> dict[str, dict[str, Any]]:
    """Return the entry of a pseudonym, and of what it belongs to. A study may stand in for a patient without an id."""
    instance = await vault.instance(pseudonym)
    study = await vault.study(instance.study if instance else pseudonym)
    patient = await vault.patient(study.patient if study else pseudonym)
    found = {"patient": patient, "study": study, "instance": instance}
    return {kind: msgspec.to_builtins(value) for kind, value in found.items() if value}


async def _read_uid(vault: ValkeyVault, key: PseudonymKey, original: Original) -> dict[str, dict[str, Any]]:
    """Return the original of a UID with the entry of its instance or study; with that of an instance that has it else."""
    for pseudonym in (key.instance(original.uid), key.study(original.uid)):
        if found := await _read(vault, pseudonym):
            return {"uid": {"original": original.uid}, **found}
    return {"uid": {"original": original.uid}, **await _read(vault, original.instance)}
