"""Dates and times under a policy: none, shifted, the year only, or as they are.

A shift is a whole number of days, keyed by the patient and the same for every date of that patient, so that intervals stay;
times of day stay with it. Nothing is clamped: what leaves the calendar is removed.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey

__all__ = ["MOST_DAYS", "DatePolicy", "Dates", "shift_days"]

MOST_DAYS = 1825
"""Longest shift into the past, in days."""

_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?)?", re.ASCII)
_ZONE = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d", re.ASCII)


class DatePolicy(StrEnum):
    """What a profile does with dates and times."""

    NONE = "none"
    SHIFT = "shift"
    YEAR = "year"
    FULL = "full"


@dataclass(frozen=True)
class Dates:
    """The dates of one patient under a policy.

    Parameters
    ----------
    policy
        What to do.
    days
        The patient's shift in days; of no account under other policies.

    Examples
    --------
    >>> Dates(DatePolicy.SHIFT, -31).apply("DA", "20240229"), Dates(DatePolicy.YEAR).apply("DA", "20240229")
    ('20240129', '20240101')
    """

    policy: DatePolicy = DatePolicy.NONE
    days: int = 0

    def apply(self, vr: str, value: str) -> str | None:
        """Return what becomes of one value, None if nothing does.

        Parameters
        ----------
        vr
            DA, TM or DT.
        value
            One value, without padding. What is no date or time of PS3.5 section 6.2 is removed under every policy.
        """
        if self.policy is DatePolicy.NONE:
            return None
        if vr == "TM":
            return value if self.policy is not DatePolicy.YEAR and _TIME.fullmatch(value) else None
        if vr == "DT":
            return self._moment(value)
        return self._date(value)

    def _date(self, value: str) -> str | None:
        match = _DATE.fullmatch(value)
        if match is None:
            return None
        try:
            date = dt.date(*map(int, match.groups()))
            if self.policy is DatePolicy.SHIFT:
                date += dt.timedelta(days=self.days)
        except (ValueError, OverflowError):
            return None
        return f"{date.year:04d}0101" if self.policy is DatePolicy.YEAR else date.isoformat().replace("-", "")

    def _moment(self, value: str) -> str | None:
        date = self._date(value[:8])
        rest, sign, offset = _split_zone(value[8:])
        if date is None or (rest and not _TIME.fullmatch(rest)) or (sign and not _ZONE.fullmatch(sign + offset)):
            return None
        return date if self.policy is DatePolicy.YEAR else date + rest + sign + offset


def shift_days(key: PseudonymKey, patient: str) -> int:
    """Return the shift of a patient's dates in days, from -1 to -`MOST_DAYS`; `patient` is the pseudonym."""
    hasher = key.hasher("date-shift")
    hasher.update(patient.encode())
    return -1 - int.from_bytes(hasher.digest()[:8], "big") % MOST_DAYS


def _split_zone(text: str) -> tuple[str, str, str]:
    for sign in "+-":
        if sign in text:
            return text.partition(sign)
    return text, "", ""
