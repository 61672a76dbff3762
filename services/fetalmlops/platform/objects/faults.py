"""What goes wrong at a store, as the errors that stages know."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError, NotFoundError

from fetalmlops.domain.errors import DigestMismatchError, ObjectMissingError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StoreFullError", "mismatch", "missing", "translated"]


class StoreFullError(TransientError):
    """The store has no room."""


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what a store raises on an object into a missing object, a full store, or one that is away."""
    try:
        yield
    except (FileNotFoundError, NotFoundError):
        raise missing(uri) from None
    except (OSError, BaseError) as error:
        full = getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(error)
        if full:
            msg = "Expected room in the object store, got none; free space or enlarge it"
            raise StoreFullError(msg, dependency="objects", everyone=True) from None
        msg = f"Expected an answer of the object store, got {type(error).__name__}; check that it runs and its credentials"
        raise TransientError(msg, dependency="objects", everyone=True) from error


def missing(uri: str) -> ObjectMissingError:
    """Return the error of an object that is not there."""
    return ObjectMissingError(f"Expected an object at {uri}, got none; it may have been deleted by retention")


def mismatch(uri: str) -> DigestMismatchError:
    """Return the error of an object that is not the one that was cited."""
    return DigestMismatchError(f"Expected the bytes that were cited for {uri}, got others; the store may be damaged")
