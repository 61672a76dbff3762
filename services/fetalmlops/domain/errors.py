"""The one exception tree: every error says what was expected, what came and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.refusals import RefusalDetails

__all__ = [
    "ContractError",
    "DeadlyError",
    "DigestMismatchError",
    "FetalMLOpsError",
    "ObjectMissingError",
    "PermanentError",
    "SettingsError",
    "TransientError",
]


class FetalMLOpsError(Exception):
    """Base of all errors raised on purpose. Its text never holds a value taken from patient data."""


class PermanentError(FetalMLOpsError):
    """Trying again cannot help: the event goes to quarantine.

    Parameters
    ----------
    message
        What was expected, what came and what to do.
    reason
        Bounded, lower-case reason class used in metrics and in the quarantine entry, such as ``undecodable``.
    details
        What else a person needs to judge it, for the quarantine entry of the event's own zone.
    """

    def __init__(self, message: str, *, reason: str = "invalid", details: RefusalDetails | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = details


class TransientError(FetalMLOpsError):
    """A dependency failed or was too slow: trying again later can help.

    Parameters
    ----------
    message
        What was expected, what came and what to do.
    dependency
        The dependency at fault, such as ``inference``.
    everyone
        Whether the dependency is away for all events (the stage waits) or failed for this one (the event is parked).
    retry_after_s
        When the dependency wants to be asked again, in seconds; None where it does not say.
    """

    def __init__(
        self, message: str, *, dependency: str, everyone: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.dependency = dependency
        self.everyone = everyone
        self.retry_after_s = retry_after_s


class DeadlyError(FetalMLOpsError):
    """The work on an event killed the process, or the child, that did it: counted, and never tried without end."""


class ContractError(PermanentError, ValueError):
    """An event, an object or a file breaks its contract."""

    def __init__(self, message: str, *, reason: str = "contract") -> None:
        super().__init__(message, reason=reason)


class DigestMismatchError(PermanentError, ValueError):
    """An object's bytes differ from the digest by which it was cited."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="digest-mismatch")


class ObjectMissingError(FetalMLOpsError, FileNotFoundError):
    """A cited object is not in the store."""


class SettingsError(FetalMLOpsError, ValueError):
    """A setting is missing, unknown or out of range."""
