"""What a scanner draws around and over its image: text, settings, grey bar, depth scale, calipers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.simulation.scanners import Scanner
    from fetalmlops.domain.simulation.sector import Area, View

__all__ = ["draw_calipers", "draw_surround", "draw_text"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE_HEIGHT = 36

Ink = int | tuple[int, int, int]


def draw_surround(scanner: Scanner, view: View, header: Sequence[str], *, colour: bool) -> NDArray[np.uint8]:
    """Return a scanner's screen without its image.

    Parameters
    ----------
    scanner
        Whose screen.
    view
        Where the image will stand: nothing is drawn there.
    header
        Lines of the text band.
    colour
        Whether the screen is RGB or grey.

    Returns
    -------
    ndarray
        uint8 of shape (rows, columns) or (rows, columns, 3).
    """
    shape = (scanner.rows, scanner.columns, 3) if colour else (scanner.rows, scanner.columns)
    screen: NDArray[np.uint8] = np.zeros(shape, np.uint8)
    ink: Ink = scanner.ink if colour else round(sum(scanner.ink) / 3)
    _band(screen, scanner.header, header, scanner.columns_of_text, scanner.font_scale, ink)
    wide = scanner.sidebar[2] - scanner.sidebar[0] > 2 * (scanner.sidebar[3] - scanner.sidebar[1])
    _band(screen, scanner.sidebar, _settings(scanner, view), 2 if wide else 1, scanner.font_scale * 0.9, ink)
    _grey_bar(screen, scanner.bar)
    _depth_scale(screen, scanner, view, ink)
    x0, y0, x1, y1 = view.box
    screen[y0:y1, x0:x1] = 0
    return screen


def draw_text(image: NDArray[np.uint8], lines: Sequence[str], at: tuple[int, int], scale: float, ink: Ink) -> None:
    """Write lines below each other; `at` is the upper left corner in pixels, `scale` the size of the font."""
    step = round(_LINE_HEIGHT * scale)
    for number, line in enumerate(lines):
        cv2.putText(image, line, (at[0], at[1] + (number + 1) * step), _FONT, scale, ink, 1, cv2.LINE_AA)


def draw_calipers(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Draw a measurement somewhere, whatever is shown: two crosses joined by dots."""
    height, width = image.shape[:2]
    start = np.array([rng.uniform(0.3, 0.5) * width, rng.uniform(0.35, 0.65) * height])
    angle = rng.uniform(-np.pi, np.pi)
    stop = start + rng.uniform(0.15, 0.3) * height * np.array([np.cos(angle), np.sin(angle)])
    for x, y in np.linspace(start, stop, 20).astype(int).tolist():
        cv2.circle(image, (x, y), 1, 210, -1)
    for x, y in (start.astype(int).tolist(), stop.astype(int).tolist()):
        cv2.drawMarker(image, (x, y), 255, cv2.MARKER_CROSS, 13, 1)


def _band(screen: NDArray[np.uint8], area: Area, lines: Sequence[str], columns: int, scale: float, ink: Ink) -> None:
    """Write lines into an area, column by column, smaller where they would not fit."""
    x0, y0, x1, y1 = area
    rows = max(1, -(-len(lines) // columns))
    width = (x1 - x0) // columns
    widest = max((cv2.getTextSize(line, _FONT, 1.0, 1)[0][0] for line in lines), default=1)
    scale = min(scale, (width - 4) / max(1, widest), (y1 - y0) / (rows * _LINE_HEIGHT))
    part = screen[y0:y1, x0:x1]
    for number in range(columns):
        draw_text(part, lines[number * rows : (number + 1) * rows], (number * width, -2), scale, ink)


def _settings(scanner: Scanner, view: View) -> list[str]:
    depth = view.sector.depth_mm / 10
    return [
        scanner.model,
        f"{depth:.1f}cm",
        f"DR {scanner.look.dynamic_range:.0f}",
        f"Gn {scanner.look.gain:.0f}",
        "MI 0.9",
        "TIs 0.2",
    ]


def _grey_bar(screen: NDArray[np.uint8], area: Area) -> None:
    x0, y0, x1, y1 = area
    ramp = np.linspace(255, 0, y1 - y0).astype(np.uint8)
    screen[y0:y1, x0:x1] = ramp.reshape(-1, *([1] * (screen.ndim - 1)))


def _depth_scale(screen: NDArray[np.uint8], scanner: Scanner, view: View, ink: Ink) -> None:
    """Draw a tick for each centimetre of depth beside the image area, longer at each fifth."""
    centimetre = view.scale / (view.sector.depth_mm / 10)
    left = scanner.ticks == "left"
    x = scanner.area[0] - 2 if left else scanner.area[2] + 1
    for number in range(int(view.sector.depth_mm / 10) + 1):
        y = round(view.origin[1] + number * centimetre)
        if scanner.area[1] <= y < scanner.area[3]:
            length = 9 if number % 5 == 0 else 5
            cv2.line(screen, (x, y), (x - length if left else x + length, y), ink, 1)
