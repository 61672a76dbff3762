"""Which frames of a cine are looked at."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Spread", "sample"]


class Spread(StrEnum):
    """How sampled frames lie in a cine that has more of them."""

    ENDS = "ends"
    """Evenly from the first frame to the last, both included."""

    CENTRES = "centres"
    """The middle frames of equal parts: neither end counts, where a probe is often lifted or a freeze begins."""


def sample(total: int, most: int, spread: Spread = Spread.ENDS) -> tuple[int, ...]:
    """Return at most `most` frame numbers out of 1 to `total`, increasing, and always the same ones.

    Parameters
    ----------
    total
        Number of frames, at least 1.
    most
        Most frames to take, at least 1.
    spread
        How they lie where there are more.

    Examples
    --------
    >>> sample(9, 3), sample(9, 3, Spread.CENTRES), sample(2, 3)
    ((1, 5, 9), (2, 5, 8), (1, 2))
    """
    if total <= most:
        return tuple(range(1, total + 1))
    if spread is Spread.CENTRES:
        return tuple(1 + (2 * index + 1) * total // (2 * most) for index in range(most))
    return tuple(1 + round(index * (total - 1) / max(1, most - 1)) for index in range(most))
