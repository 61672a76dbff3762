"""Screens of simulated scanners: one image, a cine, or the bare sector at the size of a network's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.simulation.acoustics import BEAMS, SAMPLES, Insonation
from fetalmlops.domain.simulation.motion import Motion
from fetalmlops.domain.simulation.overlays import draw_calipers, draw_surround, draw_text
from fetalmlops.domain.simulation.phantoms import make_phantom
from fetalmlops.domain.simulation.scanners import SCANNERS, Scanner
from fetalmlops.domain.simulation.sector import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.simulation.sector import Region

__all__ = ["CYCLE", "Burned", "Recording", "Screen", "record", "render", "render_sector"]

CYCLE = 48
"""Frames after which a cine's motion begins anew: frame n + 48 equals frame n."""


@dataclass(frozen=True, kw_only=True)
class Burned:
    """What is burned into a screen besides the image.

    Parameters
    ----------
    header
        Lines of the text band, outside the region.
    inside
        Lines written over the image, inside the region, as a careless setting does.
    calipers
        Whether a measurement's calipers stand in the image.
    """

    header: Sequence[str] = ()
    inside: Sequence[str] = ()
    calipers: bool = False


@dataclass(frozen=True)
class Screen:
    """A screen: pixels, uint8 of shape (rows, columns) or (rows, columns, 3) in RGB, and the region that holds the image."""

    pixels: NDArray[np.uint8]
    region: Region


class Recording:
    """A scene on a scanner's screen, from which still images and cines are taken; made by `record`."""

    def __init__(self, view: View, insonation: Insonation, motion: Motion, surround: NDArray[np.uint8]) -> None:
        self.region = view.region
        self._insonation, self._motion, self._surround = insonation, motion, surround
        self._lookup = view.lookup(SAMPLES, BEAMS)
        self._over: tuple[NDArray[np.uint8], NDArray[np.bool_]] | None = None

    def overlay(self, over: NDArray[np.uint8]) -> None:
        """Lay an image of the region's shape over the sector: where it is not black, it covers."""
        self._over = over, over > 0

    def image(self, moment: float = 0.0) -> NDArray[np.uint8]:
        """Return the region's image without overlays, grey uint8; `moment` in cycles of the motion."""
        beams = self._insonation.beams(self._motion, moment)
        image: NDArray[np.uint8] = cv2.remap(beams, *self._lookup, cv2.INTER_LINEAR)
        return _finished(image, self._insonation.look.smooth, self._insonation.look.sharpen)

    def screen(self, moment: float = 0.0) -> Screen:
        """Return the whole screen at `moment`."""
        image = self.image(moment)
        if self._over is not None:
            over, where = self._over
            np.copyto(image, over, where=where)
        pixels = self._surround.copy()
        pixels[self.region.slices] = image if pixels.ndim == 2 else image[..., None]
        return Screen(pixels, self.region)

    def frames(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the screens of a cine one by one; frames `CYCLE` apart are equal."""
        for number in range(count):
            yield self.screen((number % CYCLE) / CYCLE).pixels


def record(
    plane: Plane,
    scanner: Scanner,
    rng: np.random.Generator,
    *,
    brain_plane: BrainPlane | None = None,
    burned: Burned | None = None,
    colour: bool = False,
) -> Recording:
    """Set up a scene on a scanner's screen.

    Parameters
    ----------
    plane
        What is shown.
    scanner
        On whose screen.
    rng
        Source of all that is random; sector shape, depth and zoom do not depend on the plane.
    brain_plane
        For the brain: which view; drawn at random when None.
    burned
        Text and calipers.
    colour
        Whether the screen is RGB (coloured text around a grey image) or grey.
    """
    view, insonation, motion = _scene(plane, scanner, rng, brain_plane)
    burned = burned or Burned()
    surround = draw_surround(scanner, view, burned.header, colour=colour)
    recording = Recording(view, insonation, motion, surround)
    if burned.inside or burned.calipers:
        over = np.zeros((view.box[3] - view.box[1], view.box[2] - view.box[0]), np.uint8)
        if burned.calipers:
            draw_calipers(over, rng)
        draw_text(over, burned.inside, (over.shape[1] // 4, over.shape[0] // 3), 0.6, 255)
        recording.overlay(over)
    return recording


def render(
    plane: Plane,
    scanner: Scanner,
    rng: np.random.Generator,
    *,
    brain_plane: BrainPlane | None = None,
    burned: Burned | None = None,
    colour: bool = False,
) -> Screen:
    """Return one screen; parameters as in `record`.

    Examples
    --------
    >>> screen = render(Plane.FEMUR, SCANNERS[0], np.random.default_rng(7))
    >>> screen.pixels.shape, screen.region.x1 < 800
    ((600, 800), True)
    """
    return record(plane, scanner, rng, brain_plane=brain_plane, burned=burned, colour=colour).screen()


def render_sector(
    plane: Plane,
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    brain_plane: BrainPlane | None = None,
    scanners: Sequence[Scanner] = SCANNERS,
) -> NDArray[np.uint8]:
    """Return the region's image of a random scanner at the size of a network's input: what serving would feed it.

    Parameters
    ----------
    plane
        What is shown.
    rng
        Source of all that is random.
    size
        Height and width of the result; the region is stretched to it, as in serving.
    brain_plane
        For the brain: which view; drawn at random when None.
    scanners
        Scanners to draw from: leave some out to keep them unseen.

    Returns
    -------
    ndarray
        Grey uint8 of shape `size`.
    """
    scanner = scanners[int(rng.integers(len(scanners)))]
    view, insonation, motion = _scene(plane, scanner, rng, brain_plane)
    view = view.scaled(min(1.0, 2 * max(size) / max(view.box[2] - view.box[0], view.box[3] - view.box[1])))
    image = Recording(view, insonation, motion, np.empty((0, 0), np.uint8)).image()
    resized: NDArray[np.uint8] = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return resized


def _scene(
    plane: Plane, scanner: Scanner, rng: np.random.Generator, brain_plane: BrainPlane | None
) -> tuple[View, Insonation, Motion]:
    sector = scanner.probes[int(rng.integers(len(scanner.probes)))].aim(rng)
    zoom = float(rng.uniform(0.92, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, 1.35))
    view = View.fit(sector, scanner.area, zoom=zoom, shift=float(rng.uniform(-0.3, 0.3)))
    insonation = Insonation(make_phantom(plane, rng, brain_plane), sector, scanner.look, rng)
    return view, insonation, Motion.draw(rng, beating=plane is Plane.THORAX)


def _finished(image: NDArray[np.uint8], smooth: float, sharpen: float) -> NDArray[np.uint8]:
    """Smooth or sharpen as the scanner's screen does; black stays black."""
    if smooth:
        image = cv2.GaussianBlur(image, (0, 0), smooth)
    if sharpen:
        image = cv2.addWeighted(image, 1 + sharpen, cv2.GaussianBlur(image, (0, 0), 1.2), -sharpen, 0)
    return image
