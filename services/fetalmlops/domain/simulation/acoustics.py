"""From tissue to beams: speckle, point spread, attenuation, shadow, gain and compression.

The model is the usual convolutional one: scatterers are a complex Gaussian field whose local strength is the tissue's
echogenicity; convolved with the pulse, its envelope is Rayleigh-distributed speckle. Smooth strong surfaces add a part
that is in phase. Excess attenuation is summed along each beam, which casts shadows below bone and brightens what lies
below fluid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.simulation.tissue import BONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.simulation.motion import Motion
    from fetalmlops.domain.simulation.sector import Sector
    from fetalmlops.domain.simulation.tissue import Tissue

__all__ = ["BEAMS", "SAMPLES", "Insonation", "Look"]

SAMPLES = 416
"""Samples along a beam."""
BEAMS = 192
"""Beams of a sector."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A scanner's signature on the image.

    Parameters
    ----------
    axial, lateral
        Standard deviation of the pulse along the beam, in samples, and across it at the focus, in beams.
    focus
        Depth of the focus as a share of the imaging depth.
    dynamic_range
        Decibels between black and white.
    gain
        Decibels added before compression.
    gamma
        Exponent of the grey curve; below 1 brightens dark tissue.
    tilt
        Decibels lost from top to bottom that the time gain compensation leaves.
    haze
        Share of the echo that leaks sideways as clutter.
    noise
        Level of the electronic noise at full depth, dB.
    sharpen
        Strength of the edge enhancement on the screen.
    smooth
        Standard deviation of the smoothing on the screen, pixels.
    """

    axial: float = 1.5
    lateral: float = 1.0
    focus: float = 0.5
    dynamic_range: float = 60.0
    gain: float = 0.0
    gamma: float = 1.0
    tilt: float = 4.0
    haze: float = 0.02
    noise: float = -58.0
    sharpen: float = 0.0
    smooth: float = 0.0


class Insonation:
    """A scene as one probe sees it: fixed scatterers, from which any moment's beams follow.

    Parameters
    ----------
    tissue
        The scene.
    sector
        Where the beams go.
    look
        The scanner's signature.
    rng
        Source of scatterers, patchy contact and the knobs' position.
    """

    def __init__(self, tissue: Tissue, sector: Sector, look: Look, rng: np.random.Generator) -> None:
        self.look = look
        self._tissue, self._sector = tissue, sector
        x, y = sector.beams(SAMPLES, BEAMS)
        self._x, self._y = x + _aberration(rng), y + _aberration(rng)
        self._scatterers, self._electronic = _random_field(rng), _random_field(rng)
        self._offset = _patchiness(rng) + _contact(rng) + _depth_gain(rng, look)
        focus = float(np.clip(look.focus + rng.normal(0, 0.08), 0.2, 0.9))
        self._defocus = np.clip(np.abs(_DEPTH - focus) * 1.8, 0, 1)[:, None, None]
        self._curve = _grey_curve(look, float(rng.normal(0, 2.5)))

    def beams(self, motion: Motion | None = None, moment: float = 0.0) -> NDArray[np.uint8]:
        """Return the grey values of the beams, uint8 of shape (SAMPLES, BEAMS).

        Parameters
        ----------
        motion
            How the scene moves; None for a still scene.
        moment
            Time in cycles of the motion.
        """
        x, y, scatterers = self._x, self._y, self._scatterers
        if motion is not None and moment:
            x, y = motion.displaced(x, y, moment)
            columns, rows = self._sector.locate(x, y, SAMPLES, BEAMS)
            scatterers = cv2.remap(
                np.ascontiguousarray(scatterers), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
            )
        echo, loss = self._tissue.sample(x, y)
        shadow = np.cumsum(loss, axis=0)
        shadow *= np.float32(1 / SAMPLES)
        np.clip(shadow, -9, 60, out=shadow)
        np.subtract(self._offset, shadow, out=shadow)
        shadow += echo
        amplitude = _amplitude(shadow)
        field = scatterers * amplitude[..., None]
        field[..., 0] += _smoothness(echo) * amplitude
        decibels = _decibels(self._envelope(field, moment))
        grey: NDArray[np.uint8] = cv2.LUT(decibels, self._curve)
        return grey

    def _envelope(self, field: NDArray[np.float32], moment: float) -> NDArray[np.float32]:
        look = self.look
        pulse = _spread(field, look.axial, look.lateral)
        wide = _spread(field, look.axial, 2.2 * look.lateral)
        wide -= pulse
        wide *= self._defocus
        pulse += wide
        noise = np.roll(self._electronic, int(moment * 9973) % SAMPLES, axis=0) if moment else self._electronic
        pulse += noise * _amplitude(look.noise - 22 * (1 - _DEPTH))[:, None, None]
        in_phase, quadrature = cv2.split(pulse)
        envelope: NDArray[np.float32] = cv2.magnitude(in_phase, quadrature)
        envelope += np.float32(look.haze) * cv2.blur(envelope, (41, 15))
        return envelope


_DEPTH = np.linspace(0, 1, SAMPLES, dtype=np.float32)
_IN_PHASE = 0.4
_FIELD = (1024, 1024)


@lru_cache(maxsize=1)
def _all_scatterers() -> NDArray[np.float32]:
    """Return the complex Gaussian field that every image takes its scatterers from: drawing them anew costs too much."""
    field = np.random.default_rng(20200623).standard_normal((*_FIELD, 2), dtype=np.float32)
    field.setflags(write=False)
    return field


def _random_field(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random piece of the field, at random mirrored: (SAMPLES, BEAMS, 2)."""
    row, column = int(rng.integers(_FIELD[0] - SAMPLES)), int(rng.integers(_FIELD[1] - BEAMS))
    steps = (int(rng.choice((-1, 1))), int(rng.choice((-1, 1))))
    piece = _all_scatterers()[row : row + SAMPLES, column : column + BEAMS]
    return piece[:: steps[0], :: steps[1]]


def _aberration(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random displacement, in units of depth: no living outline is an ellipse."""
    return _smooth(rng.normal(0, 0.007, (9, 6)), rng.normal(0, 0.0022, (36, 22)))


def _smooth(*grids: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the sum of coarse grids, interpolated to (SAMPLES, BEAMS): cubic to a quarter, then linear for speed."""
    size = (BEAMS // 4, SAMPLES // 4)
    quarter = [cv2.resize(grid.astype(np.float32), size, interpolation=cv2.INTER_CUBIC) for grid in grids]
    smooth: NDArray[np.float32] = cv2.resize(np.sum(quarter, axis=0), (BEAMS, SAMPLES), interpolation=cv2.INTER_LINEAR)
    return smooth


def _smoothness(echo: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return which part of an echo is in phase: none of soft tissue's, `_IN_PHASE` of bone's."""
    share = echo * np.float32(_IN_PHASE / 10) + np.float32(_IN_PHASE * (1.4 - BONE / 10))
    return np.clip(share, 0, _IN_PHASE, out=share)


def _amplitude(decibels: NDArray[np.float32]) -> NDArray[np.float32]:
    amplitude: NDArray[np.float32] = cv2.exp(decibels * np.float32(np.log(10) / 20)).reshape(decibels.shape)
    return amplitude


def _spread(field: NDArray[np.float32], axial: float, lateral: float) -> NDArray[np.float32]:
    """Convolve with the pulse, keeping the mean power of a random field."""
    rows, columns = (_kernel(sigma) for sigma in (axial, lateral))
    spread: NDArray[np.float32] = cv2.sepFilter2D(field, -1, columns, rows, borderType=cv2.BORDER_REFLECT_101)
    return spread


def _kernel(sigma: float) -> NDArray[np.float32]:
    kernel: NDArray[np.float32] = cv2.getGaussianKernel(2 * int(np.ceil(2.5 * sigma)) + 1, sigma, cv2.CV_32F)
    return kernel / np.float32(np.linalg.norm(kernel))


def _decibels(envelope: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the envelope in half-decibels above -96 dB, as uint8."""
    nepers = cv2.log(np.maximum(envelope, np.float32(10 ** (-96 / 20)), out=envelope))
    steps: NDArray[np.uint8] = cv2.convertScaleAbs(nepers, alpha=40 / np.log(10), beta=192.0)
    return steps


def _grey_curve(look: Look, knob: float) -> NDArray[np.uint8]:
    decibels = np.arange(256) / 2 - 96
    white = 8.0
    share = np.clip((decibels + look.gain + knob - white + look.dynamic_range) / look.dynamic_range, 0, 1)
    return np.rint(255 * share**look.gamma).astype(np.uint8)


def _patchiness(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth random brightness of tissue, dB."""
    return _smooth(rng.normal(0, 2.2, (16, 9)))


def _contact(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the loss of each beam from patchy contact of the probe, dB."""
    coarse = np.minimum(rng.normal(1.0, 1.6, (1, 9)), 0) + rng.normal(0, 0.8, (1, 9))
    if rng.random() < 0.25:
        edge = slice(0, 2) if rng.random() < 0.5 else slice(7, 9)
        coarse[:, edge] -= rng.uniform(6, 18)
    contact: NDArray[np.float32] = cv2.resize(coarse.astype(np.float32), (BEAMS, 1), interpolation=cv2.INTER_CUBIC)
    return contact


def _depth_gain(rng: np.random.Generator, look: Look) -> NDArray[np.float32]:
    """Return what the time gain compensation leaves over depth, dB."""
    sliders = rng.normal(0, 1.2, (8, 1)).astype(np.float32)
    ramp = np.linspace(0, -(look.tilt + rng.normal(0, 2)), SAMPLES, dtype=np.float32)[:, None]
    gain: NDArray[np.float32] = cv2.resize(sliders, (1, SAMPLES), interpolation=cv2.INTER_CUBIC).reshape(-1, 1)
    return gain + ramp
