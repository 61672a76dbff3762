"""How this process's allocator gives memory back."""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["give_back_early"]

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE_BYTES: Final = 128 * 1024
_ARENAS: Final = 2


def give_back_early() -> None:
    """Have large blocks go back to the system as soon as they are freed, and few arenas keep the small ones.

    By default glibc raises the size from which it does so with each large block that is freed, up to 32 MiB, and keeps an arena
    for each thread: of a burst of large messages a process keeps hundreds of MiB. Call it before threads start; elsewhere than
    on glibc it does nothing. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
