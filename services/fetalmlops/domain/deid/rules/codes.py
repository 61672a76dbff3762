"""Codes that take the place of identifiers: keyed, or drawn at random and written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Codes", "RandomCodes"]

_HEX_DIGITS = 32


class Codes(Protocol):
    """Codes of one project; `PseudonymKey` has keyed ones."""

    def patient(self, patient_id: str, issuer: str) -> str:
        """Return the code of a patient id within its issuer."""

    def study(self, uid: str) -> str:
        """Return the code of a Study Instance UID."""

    def series(self, uid: str) -> str:
        """Return the code of a Series Instance UID."""

    def instance(self, uid: str) -> str:
        """Return the code of a SOP Instance UID."""

    def uid(self, uid: str) -> str:
        """Return the UID that takes another one's place."""


class RandomCodes:
    """Codes that are derived from nothing, as 45 CFR 164.514(c) asks of codes: only the book that gave them knows them.

    Parameters
    ----------
    code
        The book: returns 32 hexadecimal digits for a kind and a value, always the same for the same.

    Examples
    --------
    >>> book = {}
    >>> codes = RandomCodes(lambda kind, value: book.setdefault((kind, value), f"{len(book):032x}"))
    >>> codes.uid("1.2.3"), codes.uid("1.2.4"), codes.uid("1.2.3")
    ('2.25.0', '2.25.1', '2.25.0')
    """

    def __init__(self, code: Callable[[str, str], str]) -> None:
        self._code = code

    def patient(self, patient_id: str, issuer: str) -> str:
        """Return the code of a patient id within its issuer."""
        return self._code("patient", f"{patient_id.strip()}\0{issuer.strip()}")

    def study(self, uid: str) -> str:
        """Return the code of a Study Instance UID."""
        return self._code("study", uid)

    def series(self, uid: str) -> str:
        """Return the code of a Series Instance UID."""
        return self._code("series", uid)

    def instance(self, uid: str) -> str:
        """Return the code of a SOP Instance UID."""
        return self._code("instance", uid)

    def uid(self, uid: str) -> str:
        """Return ``2.25.`` and 128 bits of the book."""
        return f"2.25.{int(self._code('uid', uid)[:_HEX_DIGITS], 16)}"
