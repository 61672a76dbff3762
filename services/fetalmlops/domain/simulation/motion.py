"""Motion of a scene over a cine: a sway of the whole and, in one place, a beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Motion"]


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A periodic, smooth displacement that is zero at moment 0.

    Parameters
    ----------
    sway
        Amplitude in x and y, in units of depth.
    turn
        Amplitude of the rotation about `centre`, radians.
    centre
        Centre of rotation and beat.
    beat
        Amplitude of the beat: the share by which the tissue at `centre` widens and shrinks.
    beats
        Beats in one cycle of the sway.
    reach
        Distance at which the beat has faded, in units of depth.
    """

    sway: tuple[float, float] = (0.012, 0.008)
    turn: float = 0.02
    centre: tuple[float, float] = (0.0, 0.5)
    beat: float = 0.0
    beats: int = 3
    reach: float = 0.15

    @classmethod
    def draw(cls, rng: np.random.Generator, *, beating: bool) -> Motion:
        """Draw a motion; `beating` for scenes with a heart."""
        return cls(
            sway=(float(rng.uniform(0.005, 0.02)), float(rng.uniform(0.004, 0.015))),
            turn=float(rng.normal(0, 0.02)),
            centre=(float(rng.normal(0, 0.03)), float(rng.uniform(0.45, 0.58))),
            beat=float(rng.uniform(0.08, 0.16)) if beating else 0.0,
        )

    def displaced(
        self, x: NDArray[np.float32], y: NDArray[np.float32], moment: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return where the tissue that is at (x, y) at `moment` (in cycles) lay at moment 0."""
        phase = 2 * np.pi * moment
        dx, dy = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        angle = np.float32(self.turn * np.sin(phase))
        near = np.exp(-(dx * dx + dy * dy) / np.float32(self.reach**2))
        swell = 1 - np.float32(self.beat * np.sin(self.beats * phase)) * near
        moved_x = (dx - angle * dy) * swell + np.float32(self.centre[0] + self.sway[0] * np.sin(phase))
        moved_y = (dy + angle * dx) * swell + np.float32(self.centre[1] + self.sway[1] * np.sin(2 * phase))
        return moved_x, moved_y
