"""Why an image cannot be used: a bounded set of reasons, and one way to turn a library's error into one of them."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from fetalmlops.domain.errors import FetalMLOpsError, PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Fault", "guarded", "refuse"]


class Fault(StrEnum):
    """Reason classes of the permanent errors of this package."""

    UNDECODABLE = "undecodable"
    NO_PIXEL_DATA = "no-pixel-data"
    FRAMES_INCONSISTENT = "frames-inconsistent"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported-transfer-syntax"
    UNSUPPORTED_PIXEL_FORMAT = "unsupported-pixel-format"
    TOO_LARGE = "too-large"


def refuse(fault: Fault, message: str) -> NoReturn:
    """Raise the permanent error that sends an instance to quarantine."""
    raise PermanentError(message, reason=fault.value)


@contextmanager
def guarded(message: str, fault: Fault = Fault.UNDECODABLE) -> Iterator[None]:
    """Turn whatever a library raises on malformed input into a permanent error that quotes nothing of the input.

    Errors raised on purpose, lack of memory and failures of the file itself pass unchanged.

    Examples
    --------
    >>> with guarded("Expected a number, got something else"):
    ...     int("DOE^JANE")
    Traceback (most recent call last):
    ...
    fetalmlops.domain.errors.PermanentError: Expected a number, got something else
    """
    try:
        yield
    except (FetalMLOpsError, MemoryError):
        raise
    except Exception as error:
        # Libraries raise OSError on malformed data too, but only the system's own carries a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PermanentError(message, reason=fault.value) from None
