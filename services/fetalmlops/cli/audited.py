"""What the audited commands have in common: they ask for a reason, and are recorded before they act."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from fetalmlops.domain.contracts.events import AuditRecorded
from fetalmlops.platform import audit

if TYPE_CHECKING:
    from fetalmlops.platform.settings import Settings

__all__ = ["Reason", "record", "require_reason"]

Reason = Annotated[str, typer.Option(help="Why, for the record. Do not name the patient here.")]
"""The option ``--reason``."""


def require_reason(reason: str) -> None:
    """Refuse an empty reason."""
    if not reason.strip():
        msg = "Expected a reason for the record, got none; say why with --reason"
        raise typer.BadParameter(msg)


async def record(
    settings: Settings, action: str, subject: str, outcome: str, reason: str, *, account: str = "", **details: str
) -> None:
    """Record what a command does; the broker has acknowledged it when this returns.

    Parameters
    ----------
    settings
        The settings.
    action
        What is done.
    subject
        To what: a pseudonym or an entry id.
    outcome
        How it ended, or that it begins.
    reason
        What the person gave as the reason.
    account
        Who does it, where that is not the account that the command runs under: that one is recorded too then.
    details
        What else belongs to it.

    Raises
    ------
    TransientError
        If the broker is away: the deed must not be done.
    """
    user = getpass.getuser()
    entry = AuditRecorded(
        process="cli",
        actor=account or user,
        action=action,
        subject=subject,
        outcome=outcome,
        reason=reason,
        details=details | ({"user": user} if account else {}),
    )
    await audit.record(settings, entry)
