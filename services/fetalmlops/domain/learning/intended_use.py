"""The intended use: what the classifier is for, for whom, against which hazards, and what it must reach. Gates read it here."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final, Literal, NoReturn

import msgspec
from msgspec import Meta, Struct

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FORMAT", "Accuracy", "Budgets", "CalibrationLimits", "Forbidden", "Hazard", "IntendedUse", "Population",
    "PrecisionLimits", "Purpose", "Scope", "Selective", "Weeks", "intended_use_digest", "parse_intended_use"]  # fmt: skip

FORMAT: Final = 1
"""Version of the layout that this code reads."""

Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(min_length=1)]
Texts = Annotated[list[Text], Meta(min_length=1)]
Least = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; a word that is not known is refused, since a misspelt floor would be no floor."""


class Purpose(_Part, frozen=True, kw_only=True):
    """What it does: a statement, the planes and sub-planes it may name, its users, and where it works."""

    statement: Text
    planes: Texts
    brain_planes: Texts
    users: Texts
    environment: Text


class Weeks(_Part, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """Gestational ages in completed weeks, both included."""

    first: Annotated[int, Meta(ge=0, le=45)]
    last: Annotated[int, Meta(ge=0, le=45)]


class Population(_Part, frozen=True, kw_only=True):
    """Whose images, at which gestational ages, by what imaging, and who is known not to be represented."""

    statement: Text
    gestational_weeks: Weeks
    imaging: Text
    not_represented: list[Text] = []


class Forbidden(_Part, frozen=True, kw_only=True):
    """A use that is not allowed, and why."""

    use: Text
    why: Text


class Hazard(_Part, frozen=True, kw_only=True):
    """What may go wrong and whom it harms (ISO 14971), and the controls: floors of this file, or measures in words."""

    id: Annotated[str, Meta(pattern="^H[0-9]+$")]
    hazard: Text
    harm: Text
    severity: Literal["minor", "moderate", "serious", "critical"]
    controls: Texts


class Accuracy(_Part, frozen=True, kw_only=True):
    """Floors on images of the test split.

    ``interval`` is the level of the patient-clustered interval whose lower bound must reach a floor. ``plane_recall`` and
    ``brain_recall`` are floors by plane and sub-plane, ``scanner_macro_f1`` is that of each scanner with enough patients.
    ``worst_group_gap`` is the most by which a group's macro F1 may lie below that of all, ``overlay_gap`` the most by which
    accuracy may fall where text and calipers are removed. The ``least_`` figures say when a floor can be judged at all.
    """

    interval: Annotated[float, Meta(gt=0.5, lt=1)]
    macro_f1: Share
    plane_recall: dict[str, Share]
    brain_macro_f1: Share
    brain_recall: dict[str, Share]
    scanner_macro_f1: Share
    worst_group_gap: Share
    overlay_gap: Share
    least_images_per_plane: Least
    least_patients_per_plane: Least
    least_patients_per_scanner: Least


class CalibrationLimits(_Part, frozen=True, kw_only=True):
    """Most expected calibration error (15 equal bins), of all images and of each scanner."""

    ece: Share
    scanner_ece: Share


class Selective(_Part, frozen=True, kw_only=True):
    """Most share of errors among accepted results, and least share of results that are accepted."""

    risk: Share
    coverage: Share


class Scope(_Part, frozen=True, kw_only=True):
    """Most share of out-of-scope images that are accepted, and of images in scope that are called out of scope."""

    false_accepts: Share
    false_alarms: Share


class PrecisionLimits(_Part, frozen=True, kw_only=True):
    """What a precision may change against f32.

    ``agreement`` is the least share of images whose likeliest plane stays, ``agreement_bound`` what the lower bound of its
    patient-clustered interval must reach, ``decision_agreement`` the least share whose decision stays. ``macro_f1_loss`` and
    ``plane_recall_loss``, that of the plane that loses most, are the most that may be lost.
    """

    agreement: Share
    agreement_bound: Share
    decision_agreement: Share
    macro_f1_loss: Share
    plane_recall_loss: Share


class Budgets(_Part, frozen=True, kw_only=True):
    """Most time of an inference (95th percentile, ms) and energy (J an image), and by which share energy may grow."""

    latency_p95_ms: Positive
    energy_j_per_image: Positive
    energy_growth: Annotated[float, Meta(ge=0)]


class IntendedUse(_Part, frozen=True, kw_only=True):
    """The intended use.

    ``status`` is ``proposal`` until a site has confirmed every floor. ``version`` is the site's own.
    """

    format: int
    version: Text
    status: Literal["proposal", "confirmed"]
    title: Text
    purpose: Purpose
    population: Population
    forbidden: Annotated[list[Forbidden], Meta(min_length=1)]
    hazards: Annotated[list[Hazard], Meta(min_length=1)]
    accuracy: Accuracy
    calibration: CalibrationLimits
    selective: Selective
    scope: Scope
    precision: PrecisionLimits
    budgets: Budgets


def intended_use_digest(data: bytes) -> str:
    """Return the digest of an intended use: the SHA-256 of its file, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def parse_intended_use(data: bytes) -> IntendedUse:
    """Read an intended use.

    Raises
    ------
    ContractError
        If it is not TOML, breaks the schema, is of another format, names planes that there are not or no floor for one, or a
        hazard's control names a floor that the file does not have (reason ``intended-use``).
    """
    try:
        use = msgspec.toml.decode(data, type=IntendedUse)
    except (msgspec.MsgspecError, ValueError) as error:
        _refuse(f"Expected an intended use of format {FORMAT}, got a file that breaks it: {error}; mend the file")
    if use.format != FORMAT:
        _refuse(f"Expected an intended use of format {FORMAT}, got {use.format}; read it with the release that made it")
    weeks = use.population.gestational_weeks
    if weeks.first > weeks.last:
        _refuse(f"Expected gestational weeks in order, got {weeks.first} to {weeks.last}; exchange them")
    _check_words(use.purpose.planes, PLANES, "purpose.planes")
    _check_words(use.purpose.brain_planes, BRAIN_PLANES, "purpose.brain_planes")
    _check_words(use.accuracy.brain_recall, use.purpose.brain_planes, "accuracy.brain_recall")
    _check_words(use.accuracy.plane_recall, use.purpose.planes, "accuracy.plane_recall")
    without = [plane for plane in use.purpose.planes if plane not in use.accuracy.plane_recall]
    if without:
        _refuse(f"Expected a floor in accuracy.plane_recall for each plane, got none for {', '.join(without)}; add it")
    _check_hazards(use)
    return use


def _check_words(words: Iterable[str], known: Iterable[str], place: str) -> None:
    known = [str(word) for word in known]
    if not set(words) <= set(known):
        _refuse(f"Expected {place} among {', '.join(known)}, got another word; rename it")


def _check_hazards(use: IntendedUse) -> None:
    identities = [hazard.id for hazard in use.hazards]
    if len(set(identities)) < len(identities):
        _refuse("Expected an id for each hazard, got one twice; number them anew")
    tables = msgspec.to_builtins(use)
    for hazard in use.hazards:
        for control in hazard.controls:
            table, dot, name = control.partition(".")
            if dot and isinstance(tables.get(table), dict) and name not in tables[table]:
                _refuse(
                    f"Expected controls of {hazard.id} that this file has, got one of {table} that it has not; mend it"
                )


def _refuse(message: str) -> NoReturn:
    raise ContractError(message, reason="intended-use")
