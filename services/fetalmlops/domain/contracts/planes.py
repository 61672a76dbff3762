"""Fetal standard planes and the other open vocabularies of the wire.

An open vocabulary maps a word that this version does not know to ``unknown``: a newer producer never breaks an older
consumer.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "BRAIN_PLANES",
    "PLANES",
    "BrainPlane",
    "Decision",
    "EnergyMethod",
    "FrameMode",
    "Lane",
    "Mode",
    "OpenEnum",
    "Plane",
    "Purpose",
    "ReleaseStatus",
    "Role",
    "SectorShape",
]


class OpenEnum(StrEnum):
    """A vocabulary that reads a word it does not know as its member ``unknown``.

    Examples
    --------
    >>> Plane("brain"), Plane("a plane of the future")
    (<Plane.BRAIN: 'brain'>, <Plane.UNKNOWN: 'unknown'>)
    """

    @classmethod
    def _missing_(cls, value: object) -> OpenEnum | None:
        return cls.__members__.get("UNKNOWN") if isinstance(value, str) else None


class Plane(OpenEnum):
    """The six planes of the plane head, as in FETAL_PLANES_DB (Burgos-Artizzu et al. 2020)."""

    OTHER = "other"
    BRAIN = "brain"
    THORAX = "thorax"
    ABDOMEN = "abdomen"
    FEMUR = "femur"
    CERVIX = "cervix"
    UNKNOWN = "unknown"


class BrainPlane(OpenEnum):
    """The brain sub-planes; ``other`` is a brain image in none of the three standard planes."""

    TRANS_THALAMIC = "trans-thalamic"
    TRANS_CEREBELLUM = "trans-cerebellum"
    TRANS_VENTRICULAR = "trans-ventricular"
    OTHER = "other"
    UNKNOWN = "unknown"


PLANES: tuple[Plane, ...] = tuple(plane for plane in Plane if plane is not Plane.UNKNOWN)
"""The planes a classifier gives probabilities for, in the order of every probability vector."""

BRAIN_PLANES: tuple[BrainPlane, ...] = tuple(plane for plane in BrainPlane if plane is not BrainPlane.UNKNOWN)
"""The brain sub-planes, in the order of every brain probability vector."""


class Decision(OpenEnum):
    """What a result asks of its reader: take it, look at it, or know that the model cannot judge this image."""

    ACCEPT = "accept"
    REVIEW = "review"
    OUT_OF_SCOPE = "out_of_scope"
    NOT_APPLICABLE = "not_applicable"
    UNKNOWN = "unknown"


class Role(OpenEnum):
    """The role in which a model made a result."""

    CHAMPION = "champion"
    CANARY = "canary"
    SHADOW = "shadow"
    UNKNOWN = "unknown"


class ReleaseStatus(OpenEnum):
    """What a bundle has proven; a ``demonstration`` one has passed technical gates only."""

    DEMONSTRATION = "demonstration"
    CANDIDATE = "candidate"
    VALIDATED = "validated"
    UNKNOWN = "unknown"


class Purpose(OpenEnum):
    """Why a source sends its studies."""

    CLINICAL = "clinical"
    RESEARCH = "research"
    UNKNOWN = "unknown"


class Lane(OpenEnum):
    """How urgent a source's studies are: ``live`` while the patient is there, ``bulk`` for archives."""

    LIVE = "live"
    BULK = "bulk"
    UNKNOWN = "unknown"


class Mode(OpenEnum):
    """Imaging mode as the header tells it (Ultrasound Color Data Present, 0028,0014)."""

    GREY = "grey"
    COLOUR = "colour"
    UNKNOWN = "unknown"


class FrameMode(OpenEnum):
    """What normalised frames show, as their pixels and regions tell it; unknown where the pipeline does not look."""

    B_MODE = "b-mode"
    COLOUR = "colour"
    M_MODE = "m-mode"
    SPECTRAL = "spectral"
    UNKNOWN = "unknown"


class SectorShape(OpenEnum):
    """Shape of the ultrasound image: the fan of a convex probe, the rectangle of a linear one, or neither was found."""

    FAN = "fan"
    RECTANGLE = "rectangle"
    NONE = "none"
    UNKNOWN = "unknown"


class EnergyMethod(OpenEnum):
    """How energy is known: by a counter of the machine, or by a model from processor time."""

    MEASURED = "measured"
    MODELLED = "modelled"
    UNKNOWN = "unknown"
