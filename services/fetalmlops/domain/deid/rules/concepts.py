"""The codes that are known: what a coded entry means is read from this list, never from an instance."""

from __future__ import annotations

import hashlib
from functools import cache, cached_property
from importlib import resources
from typing import NamedTuple

__all__ = ["Concepts", "Known", "known_concepts"]

_FILE = "data/concepts.tsv"
_CURRENT, _RETIRED = "SCT", ("SRT", "SNM3")


class Known(NamedTuple):
    """A code that is known: as it is written, with the list's meaning."""

    value: str
    scheme: str
    meaning: str


class Concepts:
    """Known codes by scheme and value.

    Parameters
    ----------
    data
        Lines of scheme, value, meaning and retired SNOMED-RT value, separated by tabs, UTF-8, after a line of names.

    Examples
    --------
    >>> known_concepts().find("11820-8", "LN")
    Known(value='11820-8', scheme='LN', meaning='Biparietal Diameter')
    >>> known_concepts().find("11820-8", "99LOCAL") is None
    True
    """

    def __init__(self, data: bytes) -> None:
        self.digest = hashlib.sha256(data).hexdigest()
        self._data = data

    def __len__(self) -> int:
        return self._data.count(b"\n") - 1

    def find(self, value: str, scheme: str) -> Known | None:
        """Return a code with the list's meaning, None if the list does not have it."""
        meaning = self._meanings.get((scheme, value))
        return None if meaning is None else Known(value, scheme, meaning)

    @cached_property
    def _meanings(self) -> dict[tuple[str, str], str]:
        meanings: dict[tuple[str, str], str] = {}
        for line in self._data.decode().splitlines()[1:]:
            scheme, value, meaning, legacy = line.split("\t")
            meanings[scheme, value] = meaning
            if legacy and scheme == _CURRENT:
                meanings.update(((retired, legacy), meaning) for retired in _RETIRED)
        return meanings


@cache
def known_concepts() -> Concepts:
    """Return the list that comes with the package; it is parsed when a code is first looked for."""
    return Concepts((resources.files("fetalmlops.domain.deid.rules") / _FILE).read_bytes())
