"""How long ago something was, in words."""

from __future__ import annotations

import time

__all__ = ["age"]


def age(moment_ms: int) -> str:
    """Return the time since a moment in its largest unit, rounded down, such as ``3 h``.

    Parameters
    ----------
    moment_ms
        Milliseconds since the epoch; one that is yet to come counts as now.

    Examples
    --------
    >>> age(round(time.time() * 1000) - 7_300_000)
    '2 h'
    """
    seconds = max(0, round(time.time() - moment_ms / 1000))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
