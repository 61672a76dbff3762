"""Files as they arrive: their kind and size are known before a byte of them is kept."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from fetalmlops.gateway.metrics import HELD_BYTES
from fetalmlops.gateway.problems import ProblemError, busy, disconnected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from fetalmlops.platform.settings import GatewaySettings

__all__ = ["MEDIA_TYPES", "Desk", "media_type"]

MEDIA_TYPES: Final = ("application/dicom", "image/png", "image/jpeg")
"""Media types of the files that are taken."""


def media_type(request: Request) -> str:
    """Return the media type of a request's file.

    Raises
    ------
    ProblemError
        If it is none of `MEDIA_TYPES`, or the content is encoded (415).
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in MEDIA_TYPES:
        raise ProblemError(
            415,
            "media-type",
            f"Expected Content-Type {', '.join(MEDIA_TYPES)}, got another or none; name the file's own",
            {"Accept": ", ".join(MEDIA_TYPES)},
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(
            415, "content-encoding", "Expected a file as it is, got an encoded one; send it without encoding"
        )
    return found


class Desk:
    """Admits files, so that what is held at once is bounded.

    Parameters
    ----------
    settings
        The bounds.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._requests = 0
        self._held = 0

    @contextmanager
    def place(self) -> Iterator[_Place]:
        """Take a place for one file, and give it back.

        Raises
        ------
        ProblemError
            If all are taken (503).
        """
        if self._requests >= self._settings.max_requests:
            raise busy(
                "busy", f"Expected at most {self._settings.max_requests} files at once, got more; try again later"
            )
        self._requests += 1
        place = _Place(self, self._settings)
        try:
            yield place
        finally:
            self._requests -= 1
            self._hold(-place.reserved)

    def reserve(self, size: int) -> None:
        """Count `size` bytes more as held; raises `ProblemError` (503) if that is too much."""
        if self._held + size > self._settings.max_buffered_bytes:
            raise busy("busy", "Expected room for this file in memory, got none left; try again later")
        self._hold(size)

    def _hold(self, size: int) -> None:
        self._held += size
        HELD_BYTES.set(self._held)


class _Place:
    """A place for one file."""

    def __init__(self, desk: Desk, settings: GatewaySettings) -> None:
        self._desk = desk
        self._settings = settings
        self.reserved = 0

    async def read(self, request: Request) -> bytes:
        """Read a request's file.

        Raises
        ------
        ProblemError
            If it is too long (413, at once where its length is told), too slow (408), or breaks off; or there is no room (503).
        """
        limit, timeout_s = self._settings.max_body_bytes, self._settings.upload_timeout_s
        told = request.headers.get("content-length", "")
        if told.isdecimal():
            self._reserve(int(told), limit)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(timeout_s):
                async for part in request.stream():
                    size += len(part)
                    self._reserve(size, limit)
                    parts.append(part)
        except TimeoutError:
            detail = f"Expected the file within {timeout_s:g} s, got a part of it; send it faster"
            raise ProblemError(408, "slow-upload", detail) from None
        except ClientDisconnect:
            raise disconnected() from None
        request.state.read = True
        return b"".join(parts)

    def _reserve(self, size: int, limit: int) -> None:
        if size > limit:
            detail = (
                f"Expected a file of at most {limit} bytes, got a longer one; send fewer frames, or raise the limit"
            )
            raise ProblemError(413, "too-large", detail)
        if size > self.reserved:
            self._desk.reserve(size - self.reserved)
            self.reserved = size
