"""The simulated scanners: no two share screen, sector shapes, image signature and text layout.

A split for scanners that a model has never seen takes some of `SCANNERS` for training and keeps the others back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.simulation.acoustics import Look
from fetalmlops.domain.simulation.sector import Probe

if TYPE_CHECKING:
    from fetalmlops.domain.simulation.sector import Area

__all__ = ["SCANNERS", "Scanner", "find_scanner"]

Grey = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """A simulated ultrasound scanner.

    Parameters
    ----------
    name
        Short name, for commands.
    manufacturer, model, software, serial, station
        What its headers say. All begin with words that no real scanner uses.
    rows, columns
        Screen size, pixels.
    area
        Where the screen shows the image; text, bar and ticks stay outside it.
    header
        Where the screen shows who is examined.
    sidebar
        Where the screen shows the settings.
    columns_of_text
        Columns into which the header's lines are set.
    bar
        Where the screen shows the grey bar.
    ticks
        Side of the area on which the depth scale stands.
    font_scale
        Size of the text, in the units of OpenCV's Hershey fonts.
    ink
        Colour of the text, RGB.
    probes
        Probes that it may use for any plane.
    look
        Its signature on the image.
    """

    name: str
    manufacturer: str
    model: str
    software: str
    serial: str
    station: str
    rows: int
    columns: int
    area: Area
    header: Area
    sidebar: Area
    columns_of_text: int
    bar: Area
    ticks: Literal["left", "right"]
    font_scale: float
    ink: Grey
    probes: tuple[Probe, ...]
    look: Look


_CURVED = Probe(radius=(0.35, 0.55), half_angle=(29, 38), depth_mm=(80, 160), megahertz=4.0)
_TIGHT = Probe(radius=(0.18, 0.3), half_angle=(38, 48), depth_mm=(90, 180), megahertz=3.5)
_VOLUME = Probe(radius=(0.28, 0.42), half_angle=(33, 45), depth_mm=(70, 150), megahertz=5.0)
_ENDOCAVITY = Probe(radius=(0.08, 0.16), half_angle=(56, 72), depth_mm=(50, 110), megahertz=7.5)
_LINEAR = Probe(half_width=(0.42, 0.58), depth_mm=(50, 90), megahertz=9.0)
_PHASED = Probe(radius=(0.02, 0.05), half_angle=(36, 46), depth_mm=(90, 170), megahertz=3.0)

SCANNERS: tuple[Scanner, ...] = (
    Scanner(
        name="alpha",
        manufacturer="SIMULATED ALPHA",
        model="Phantom A1",
        software="A1.4.2",
        serial="CANARYSN-ALPHA",
        station="CANARYST-ALPHA",
        rows=600,
        columns=800,
        area=(60, 64, 700, 580),
        header=(8, 4, 792, 58),
        sidebar=(714, 70, 798, 400),
        columns_of_text=3,
        bar=(14, 90, 28, 250),
        ticks="right",
        font_scale=0.42,
        ink=(230, 230, 230),
        probes=(_CURVED, _VOLUME, _LINEAR),
        look=Look(),
    ),
    Scanner(
        name="beta",
        manufacturer="SIMULATED BETA",
        model="Phantom B20",
        software="20.1.0.7",
        serial="CANARYSN-BETA",
        station="CANARYST-BETA",
        rows=768,
        columns=1024,
        area=(200, 40, 980, 740),
        header=(4, 44, 186, 330),
        sidebar=(4, 380, 186, 740),
        columns_of_text=1,
        bar=(990, 60, 1006, 260),
        ticks="left",
        font_scale=0.45,
        ink=(255, 214, 120),
        probes=(_CURVED, _TIGHT, _ENDOCAVITY),
        look=Look(axial=1.2, lateral=0.8, dynamic_range=68, gain=3, gamma=0.95, haze=0.012, sharpen=0.5),
    ),
    Scanner(
        name="gamma",
        manufacturer="SIMULATED GAMMA",
        model="Phantom G-Pro",
        software="G-Pro 7",
        serial="CANARYSN-GAMMA",
        station="CANARYST-GAMMA",
        rows=480,
        columns=640,
        area=(20, 10, 500, 430),
        header=(8, 436, 632, 476),
        sidebar=(524, 20, 636, 300),
        columns_of_text=3,
        bar=(504, 320, 514, 420),
        ticks="right",
        font_scale=0.36,
        ink=(200, 220, 255),
        probes=(_TIGHT, _PHASED, _CURVED),
        look=Look(axial=2.0, lateral=1.4, dynamic_range=52, gain=-2, gamma=1.1, haze=0.035, noise=-52, tilt=7),
    ),
    Scanner(
        name="delta",
        manufacturer="SIMULATED DELTA",
        model="Phantom D900",
        software="D9.0b",
        serial="CANARYSN-DELTA",
        station="CANARYST-DELTA",
        rows=720,
        columns=960,
        area=(40, 30, 756, 700),
        header=(770, 20, 956, 320),
        sidebar=(770, 380, 956, 700),
        columns_of_text=1,
        bar=(8, 40, 22, 300),
        ticks="right",
        font_scale=0.5,
        ink=(180, 255, 190),
        probes=(_VOLUME, _ENDOCAVITY, _CURVED),
        look=Look(axial=1.4, lateral=1.1, focus=0.6, dynamic_range=72, gain=5, gamma=0.85, smooth=0.9, tilt=2),
    ),
    Scanner(
        name="epsilon",
        manufacturer="SIMULATED EPSILON",
        model="Phantom E-Mini",
        software="mini-3.3",
        serial="CANARYSN-EPSILON",
        station="CANARYST-EPS",
        rows=600,
        columns=800,
        area=(30, 90, 770, 590),
        header=(8, 4, 500, 84),
        sidebar=(510, 4, 792, 84),
        columns_of_text=2,
        bar=(776, 120, 788, 400),
        ticks="left",
        font_scale=0.48,
        ink=(255, 255, 120),
        probes=(_LINEAR, _CURVED, _PHASED),
        look=Look(axial=1.7, lateral=0.9, dynamic_range=56, gain=1, gamma=0.9, haze=0.02, sharpen=0.9, noise=-55),
    ),
    Scanner(
        name="zeta",
        manufacturer="SIMULATED ZETA",
        model="Phantom Z3 Volume",
        software="Z3.11.5",
        serial="CANARYSN-ZETA",
        station="CANARYST-ZETA",
        rows=768,
        columns=1024,
        area=(90, 100, 934, 760),
        header=(10, 6, 640, 92),
        sidebar=(660, 6, 1016, 92),
        columns_of_text=2,
        bar=(40, 140, 58, 420),
        ticks="right",
        font_scale=0.55,
        ink=(255, 190, 120),
        probes=(_VOLUME, _TIGHT, _LINEAR),
        look=Look(
            axial=1.1, lateral=1.3, focus=0.4, dynamic_range=62, gain=0, gamma=1.2, haze=0.03, smooth=0.6, tilt=6
        ),
    ),
    Scanner(
        name="eta",
        manufacturer="SIMULATED ETA",
        model="Phantom H8",
        software="8.2-sim",
        serial="CANARYSN-ETA",
        station="CANARYST-ETA",
        rows=540,
        columns=720,
        area=(120, 20, 700, 470),
        header=(6, 478, 714, 536),
        sidebar=(6, 30, 114, 300),
        columns_of_text=3,
        bar=(10, 320, 24, 460),
        ticks="left",
        font_scale=0.4,
        ink=(235, 235, 255),
        probes=(_ENDOCAVITY, _CURVED, _PHASED),
        look=Look(axial=1.9, lateral=1.0, dynamic_range=48, gain=-3, gamma=1.0, haze=0.015, sharpen=0.3, noise=-60),
    ),
)
"""All simulated scanners."""


def find_scanner(name: str) -> Scanner:
    """Return the scanner of a name.

    Raises
    ------
    ContractError
        If there is none; the text lists those that exist.
    """
    for scanner in SCANNERS:
        if scanner.name == name:
            return scanner
    msg = (
        f"Expected a scanner among {', '.join(scanner.name for scanner in SCANNERS)}, got another; choose one of these"
    )
    raise ContractError(msg)
