"""Whether the text of an image is looked for: the verdict before, the outcome after."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fetalmlops.domain.deid.faults import Refusal
from fetalmlops.domain.deid.pixels.text import ALLOWED
from fetalmlops.domain.deid.pixels.trust import CheckOutcome, TextVerdict

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.events import Deidentification, InstanceReceived
    from fetalmlops.domain.errors import PermanentError
    from fetalmlops.platform.deid.trust import ValkeyTrust

__all__ = ["Texts", "rules_digest"]


class Texts:
    """The text detection of one anonymizer, under the rules that one image is worked on by.

    Parameters
    ----------
    trust
        What scanners have earned; None where text detection is off.
    """

    def __init__(self, trust: ValkeyTrust | None = None) -> None:
        self._trust = trust

    def under(self, rules: str) -> Texts:
        """Return the same under other rules, such as after a change of the device profiles."""
        return Texts(self._trust.under(rules)) if self._trust else self

    async def verdict(self, event: InstanceReceived) -> TextVerdict | None:
        """Return whether an image is to be checked, None where text detection is off."""
        if self._trust is None:
            return None
        return await self._trust.verdict(event.context.scanner, event.content_id)

    async def found_none(self, event: InstanceReceived, report: Deidentification) -> None:
        """Count a clean image, if it was looked at."""
        if self._trust is not None and report.text_passes:
            await self._trust.record(event.context.scanner, event.content_id, CheckOutcome.CLEAN)

    async def refused(self, event: InstanceReceived, error: PermanentError) -> None:
        """Take the scanner's trust, if text was found."""
        if self._trust is not None and error.reason == Refusal.TEXT_FOUND:
            await self._trust.record(event.context.scanner, event.content_id, CheckOutcome.FINDING)


def rules_digest(profile: str, devices: str) -> str:
    """Return what trust is earned under: the digests of the profile, of the device profiles and of the allowed words."""
    return hashlib.sha256(f"{profile}\0{devices}\0{ALLOWED.digest}".encode()).hexdigest()[:32]
