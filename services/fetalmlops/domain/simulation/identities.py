"""Made-up people and places, so plain that nobody can take them for real ones and a scan cannot miss them."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

__all__ = ["Identity", "make_uid"]

_NAMESPACE = uuid.UUID("6f1d8a36-5a0e-5d0c-9f5c-7b7f6e1c2a90")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a simulated study says it is about. Every value is unique to its study.

    Parameters
    ----------
    token
        Six hexadecimal digits, in every name and number.
    birth_date, menstrual_date, study_date
        DA values between 1901 and 1909: dates that no real obstetric study has.
    study_time
        TM value with microseconds.
    """

    token: str
    birth_date: str
    menstrual_date: str
    study_date: str
    study_time: str

    @classmethod
    def of_study(cls, study: int) -> Identity:
        """Return the identity of a study's number.

        Examples
        --------
        >>> identity = Identity.of_study(1)
        >>> identity.patient_name, identity.patient_id, identity.birth_date
        ('CANARY^P1AEC4D=金絲雀^1AEC4D', 'CANARYID1AEC4D', '19040127')
        """
        digest = hashlib.sha256(f"fetalmlops simulated study {study}".encode()).digest()
        fraction = int.from_bytes(digest[14:17]) % 10**6
        return cls(
            token=digest[:3].hex().upper(),
            birth_date=_date(1901 + digest[3] % 4, digest[4], digest[5]),
            menstrual_date=_date(1905, digest[6], digest[7]),
            study_date=_date(1906 + digest[8] % 4, digest[9], digest[10]),
            study_time=f"{digest[11] % 24:02}{digest[12] % 60:02}{digest[13] % 60:02}.{fraction:06}",
        )

    @property
    def patient_name(self) -> str:
        """PN with an alphabetic and an ideographic group."""
        return f"CANARY^P{self.token}=金絲雀^{self.token}"

    @property
    def patient_id(self) -> str:
        """LO."""
        return f"CANARYID{self.token}"

    @property
    def accession(self) -> str:
        """SH."""
        return f"CANARYAC{self.token}"

    @property
    def study_time_stamp(self) -> str:
        """DT of the study."""
        return self.study_date + self.study_time

    def person(self, role: str) -> str:
        """Return the PN of somebody who took part, such as the ``REFERRER``."""
        return f"CANARY^{role}{self.token}"

    def word(self, kind: str) -> str:
        """Return a short code, such as a room or a telephone number (SH: at most 16 characters)."""
        return f"CANARY{kind}{self.token}"

    def text(self, topic: str) -> str:
        """Return free text that names the patient, as people write it."""
        return f"CANARY {topic} OF P{self.token} SEEN IN HOSPITAL {self.token}"

    @property
    def institution(self) -> str:
        """LO."""
        return f"CANARY HOSPITAL {self.token}"

    def banner(self) -> tuple[str, ...]:
        """Return the lines that a scanner burns into its text band."""
        return (
            f"CANARY^P{self.token}",
            self.patient_id,
            self.birth_date,
            self.institution,
            self.accession,
            self.study_date,
        )


def _date(year: int, month: int, day: int) -> str:
    return f"{year}{month % 12 + 1:02}{day % 28 + 1:02}"


def make_uid(*parts: object) -> str:
    """Return a UID under 2.25, the same for the same parts.

    Examples
    --------
    >>> make_uid("study", 1) == make_uid("study", 1) != make_uid("study", 2)
    True
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}"
