"""An explanation as a picture: the frame, the map over it, and what it says in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import Plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.models.classify import Classified
    from fetalmlops.domain.models.manifest import Manifest

__all__ = ["SENTENCE", "Legend", "Region", "draw_explanation", "top_regions"]

SENTENCE: Final = "shows what influenced the model, not proof"
"""What stands under every explanation."""

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_WIDTH: Final = 520
_MARGIN: Final = 12
_LINE: Final = 22
_BACKGROUND: Final = (24, 24, 24)
_TEXT: Final = (235, 235, 235)
_MARK: Final = (80, 255, 80)
_STRENGTH: Final = 0.45
_BRIGHTEST: Final = 210


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What a picture says of the result that it explains.

    Parameters
    ----------
    plane, confidence
        Likeliest plane and its calibrated probability.
    brain_plane
        Likeliest brain sub-plane; None where the plane is another, or the bundle tells none.
    decision, reasons
        What the result asks of its reader, and why it is not more.
    ood_score
        Out-of-scope score; None where the bundle has none.
    frame_number
        DICOM number of the frame.
    model
        Name, version and release status of the bundle.
    """

    plane: str
    confidence: float
    brain_plane: str | None
    decision: str
    reasons: tuple[str, ...]
    ood_score: float | None
    frame_number: int
    model: str

    @classmethod
    def of(cls, result: Classified, manifest: Manifest, frame_number: int = 1) -> Legend:
        """Return that of a result."""
        return cls(
            plane=result.plane,
            confidence=result.confidence,
            brain_plane=result.brain_plane if result.plane is Plane.BRAIN else None,
            decision=result.verdict.decision,
            reasons=tuple(result.verdict.reasons),
            ood_score=result.ood_score,
            frame_number=frame_number,
            model=f"{manifest.name} {manifest.version}, {manifest.release_status}",
        )


@dataclass(frozen=True)
class Region:
    """A place that spoke for the plane.

    Parameters
    ----------
    row, column
        Its middle, as shares of the frame's rows and columns.
    share
        Its share of all that spoke for the plane.
    """

    row: float
    column: float
    share: float


def top_regions(grid: NDArray[np.float32], most: int = 3) -> tuple[Region, ...]:
    """Return the strongest regions of a map: parts above half of its maximum that hang together, the strongest first.

    Parameters
    ----------
    grid
        The map, [rows, columns]; what is not positive does not speak for the plane.
    most
        How many to return at most.

    Examples
    --------
    >>> grid = np.zeros((4, 4), np.float32)
    >>> grid[1, 2] = 2.0
    >>> top_regions(grid)
    (Region(row=0.375, column=0.625, share=1.0),)
    """
    positive = np.maximum(grid, 0)
    total = float(positive.sum())
    if not total:
        return ()
    count, labels = cv2.connectedComponents((positive > positive.max() / 2).astype(np.uint8))
    regions = []
    for label in range(1, count):
        weights = np.where(labels == label, positive, 0)
        rows, columns = (np.arange(size) + 0.5 for size in grid.shape)
        inside = float(weights.sum())
        row = float(weights.sum(axis=1) @ rows) / inside / grid.shape[0]
        column = float(weights.sum(axis=0) @ columns) / inside / grid.shape[1]
        regions.append(Region(row, column, inside / total))
    return tuple(sorted(regions, key=lambda region: -region.share)[:most])


def draw_explanation(frame: NDArray[np.uint8], grid: NDArray[np.float32] | None, legend: Legend) -> bytes:
    """Return a PNG of the frame beside the same frame under its map, with the result in words.

    Parameters
    ----------
    frame
        The best frame, ``uint8`` of [rows, columns].
    grid
        Its map; None where the bundle gives none, which the picture then says.
    legend
        The result that is explained, in words.
    """
    width = max(_LEAST_WIDTH // 2, frame.shape[1])
    height = round(frame.shape[0] * width / frame.shape[1])
    plain = cv2.cvtColor(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2BGR)
    over = plain.copy() if grid is None else _overlaid(plain, grid)
    lines = _lines(grid, legend)
    foot = np.full((2 * _MARGIN + _LINE * len(lines), 2 * width + 3 * _MARGIN, 3), _BACKGROUND, np.uint8)
    page = np.full((height + 2 * _MARGIN, foot.shape[1], 3), _BACKGROUND, np.uint8)
    page[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width] = plain
    page[_MARGIN : _MARGIN + height, 2 * _MARGIN + width : 2 * _MARGIN + 2 * width] = over
    for index, line in enumerate(lines):
        place = (_MARGIN, _MARGIN + _LINE * index + _LINE // 2)
        cv2.putText(foot, line, place, _FONT, 0.5, _TEXT, 1, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", np.vstack([page, foot]))[1])


def _overlaid(plain: NDArray[np.uint8], grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    positive = np.maximum(grid, 0)
    level = positive / max(float(positive.max()), 1e-12)
    size = (plain.shape[1], plain.shape[0])
    large = cv2.resize(level, size, interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((large * _BRIGHTEST).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float32)
    weight = (_STRENGTH * np.minimum(1, large * 2))[:, :, None]
    page = (plain * (1 - weight) + colours * weight).astype(np.uint8)
    for number, region in enumerate(top_regions(grid), 1):
        centre = (round(region.column * size[0]), round(region.row * size[1]))
        cv2.circle(page, centre, 11, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.circle(page, centre, 11, _MARK, 1, cv2.LINE_AA)
        cv2.putText(page, str(number), (centre[0] - 5, centre[1] + 5), _FONT, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(page, str(number), (centre[0] - 5, centre[1] + 5), _FONT, 0.5, _MARK, 1, cv2.LINE_AA)
    return np.asarray(page, np.uint8)


def _lines(grid: NDArray[np.float32] | None, legend: Legend) -> list[str]:
    reasons = f" ({', '.join(legend.reasons)})" if legend.reasons else ""
    brain = f": {legend.brain_plane}" if legend.brain_plane else ""
    score = "not available" if legend.ood_score is None else f"{legend.ood_score:.2f} (limit 1)"
    lines = [
        f"{legend.plane}{brain}, probability {legend.confidence:.3f}",
        f"decision: {legend.decision}{reasons}",
        f"out-of-scope score: {score}, frame {legend.frame_number}",
    ]
    if grid is None:
        lines.append("map: not available, this bundle gives none")
    else:
        for index, region in enumerate(top_regions(grid), 1):
            lines.append(f"region {index}: {region.share:.0%} of what spoke for the plane")
    return [*lines, legend.model, SENTENCE]
