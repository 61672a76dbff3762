"""Fixtures of the proofs of de-identification, and what holds during all of them: nothing that is said quotes an input."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import pytest

from support.deid import deidentifier, files, key, profile

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["deidentifier", "files", "key", "profile", "said"]

PLANTED = ("CANARY", "QXHOSPITAL", "3680043.10.777", "4711081512", "金絲雀")
"""What every planted value of these tests has in it."""
_READERS = ("pydicom", "py.warnings")
"""Loggers of the reader by which the tests look at files, before and after: they quote what they read, and the engine does not
use them."""


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note every log line, warning and error of the engine, with its causes; none may hold a planted value."""
    from fetalmlops.domain.deid import Deidentifier

    lines: list[str] = []
    handler = _Handler(lines)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(0)
    whole = Deidentifier.deidentify

    def listening(self: Deidentifier, *arguments: object, **options: object) -> object:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return whole(self, *arguments, **options)  # type: ignore[arg-type]
            except BaseException as error:
                _note(lines, error)
                raise
            finally:
                lines.extend(str(item.message) for item in caught)
                assert not caught, "the engine warns of nothing"

    monkeypatch.setattr(Deidentifier, "deidentify", listening)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)
    assert not [line for line in lines if any(text in line for text in PLANTED)]


def _note(lines: list[str], error: BaseException | None) -> None:
    while error is not None:
        lines.extend((str(error), repr(error)))
        error = error.__cause__ or error.__context__


class _Handler(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(0)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(_READERS):
            self._lines.append(logging.Formatter().format(record))
