"""What the gateway answers: the same words as the events and the gRPC contract."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Answer",
    "Classification",
    "Deidentification",
    "Explanation",
    "Health",
    "Map",
    "Model",
    "Models",
    "Overlay",
    "Served",
]

Share = Annotated[float, Field(ge=0, le=1)]


class Explanation(StrEnum):
    """What of an explanation is wanted."""

    NONE = "none"
    MAP = "map"
    OVERLAY = "overlay"


class Answer(BaseModel):
    """What all answers share: the docstring of a field is its description."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Model(Answer):
    """The model behind a result."""

    name: str
    """Name of its bundle."""
    version: str
    """Version of its bundle."""
    digest: str
    """SHA-256 of the bundle's manifest, hexadecimal."""
    precision: str
    """Arithmetic: `f32`, `bf16` or `int8`."""
    engine: str
    """Engine and its version."""
    release_status: str
    """What the bundle has proven: `demonstration`, `candidate` or `validated`. Only the last is for patients."""


class Decision(Answer):
    """What the result asks of its reader."""

    outcome: str
    """`accept`, `review` or `out_of_scope`."""
    reasons: list[str]
    """Why it is not `accept`."""


class Quality(Answer):
    """Figures of the frames, each between 0 and 1."""

    brightness: Share
    """Mean of the grey levels."""
    contrast: Share
    """Their standard deviation."""
    sharpness: Share
    """How sharp the frames are."""
    saturation: Share
    """Share of pixels that are as bright as can be."""
    sector_share: Share
    """Share of the screen that the sector takes."""
    overlay_share: Share
    """Share of the sector that graphics covered."""
    colour_share: Share
    """Share of the sector that was coloured."""
    blank_share: Share
    """Share of the frames that show nothing."""


class Frames(Answer):
    """The frames that were judged."""

    total: int
    """Frames of the file."""
    judged: int
    """Frames that were judged, spread evenly."""
    best: int
    """Number (from 1) of the one that shows the plane best."""
    rows: int
    """Rows of a frame as the model saw it."""
    columns: int
    """Columns of a frame as the model saw it."""
    mode: str
    """What the frames show, where that is known."""


class Deidentification(Answer):
    """How the file was de-identified before it was read."""

    profile: str
    """Rules for the header; empty for a picture, of which nothing but the pixels is read."""
    pixels: str
    """By what right the pixels count as free of identifiers: `regions`, `device_profile`, `source_clean`, or `unproven`."""


class Map(Answer):
    """Class-activation map: a coarse grid over the whole best frame. It shows what influenced the model, not proof."""

    plane: str
    """The plane that it speaks of."""
    frame: int
    """Number of the frame."""
    rows: int
    """Rows of the grid."""
    columns: int
    """Columns of the grid."""
    values: list[list[float]]
    """Contributions to the plane's logit, row by row; positive speaks for the plane."""


class Overlay(Answer):
    """The map drawn over its frame."""

    media_type: Literal["image/png"] = "image/png"
    """Media type of `data`."""
    frame: Literal["shown", "left_out"]
    """Whether the frame lies beneath the map: it is left out unless its pixels are proven to show no identifier."""
    data: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
    """The picture."""


class Classification(Answer):
    """The result for one file."""

    plane: str
    """Likeliest plane."""
    confidence: Share
    """Its calibrated probability."""
    probabilities: dict[str, Share]
    """Calibrated probability of each plane; they sum to 1."""
    brain_plane: str | None
    """Likeliest brain sub-plane, given that the plane is brain; null where the bundle tells none."""
    brain_probabilities: dict[str, Share] | None
    """Calibrated probability of each brain sub-plane, given a brain; null where the bundle tells none."""
    decision: Decision
    """What the result asks of its reader."""
    ood_score: float | None
    """Out-of-scope score of the best frame, 1 is the bundle's limit; null where the bundle has none."""
    quality: Quality
    """Figures of the frames."""
    frames: Frames
    """The frames that were judged."""
    model: Model
    """The model that made the result."""
    deidentification: Deidentification
    """How the file was de-identified."""
    map: Map | None
    """The map; null unless it was asked for and the bundle gives one."""
    overlay: Overlay | None
    """The overlay; null unless it was asked for and the bundle gives a map."""
    not_available: list[str]
    """What was asked for, or belongs to a result, and the bundle does not give."""
    trace_id: str
    """Trace of the request; empty where there is none."""


class Figures(Answer):
    """What a bundle's manifest says of what it can do."""

    accept: Share
    """Least probability of an accepted plane."""
    accept_brain: Share
    """Least probability of an accepted brain sub-plane."""
    ood_limit: float
    """Highest out-of-scope score of an accepted result."""
    temperature: float
    """Temperature of the calibration."""
    metrics: dict[str, dict[str, float]]
    """Figures by data set, then by metric."""


class Served(Answer):
    """One model that serves."""

    role: str
    """Role: `champion` makes the results, `shadow` only looks on."""
    model: Model
    """Its identity."""
    planes: list[str]
    """Planes that it tells apart."""
    brain_planes: list[str]
    """Brain sub-planes that it tells apart; empty for none."""
    pipeline: str
    """Normalisation that makes its frames."""
    input_rows: int
    """Rows of the network's input."""
    input_columns: int
    """Columns of the network's input."""
    intended_use: str
    """What it is for; empty where its manifest does not say."""
    not_available: list[str]
    """What its results do not have."""
    figures: Figures
    """Thresholds, and figures of its evaluation."""


class Models(Answer):
    """What serves."""

    models: list[Served]
    """Each model."""


class Health(Answer):
    """How the gateway fares."""

    process: Literal["gateway"] = "gateway"
    """The process."""
    ready: bool
    """Whether it is able to classify."""
    waiting: list[str]
    """What it waits for."""
