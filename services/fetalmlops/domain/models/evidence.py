"""What a manifest may say beyond what serving needs: the evidence behind a model. What is missing is "not available"."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from fetalmlops.domain.contracts.events import Probability, Sha256

__all__ = ["DataEntry", "DriftReference", "Estimate", "Evidence", "PrecisionGate", "SelectiveThreshold", "UseStatement"]

FileName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Name without folders")]
Count = Annotated[int, Meta(ge=0)]


class DataEntry(Struct, frozen=True, kw_only=True):
    """A data set that the model was made from or judged by; ``digest`` is that of its manifest, ``role`` what it was for.

    ``images`` and ``patients`` are None where they are not known.
    """

    name: str
    role: str
    digest: Sha256
    images: Count | None = None
    patients: Count | None = None
    licence: str = ""


class Estimate(Struct, frozen=True, kw_only=True):
    """A figure with its patient-clustered interval."""

    value: float
    low: float
    high: float
    level: Probability = 0.95
    images: Count
    patients: Count


class SelectiveThreshold(Struct, frozen=True, kw_only=True):
    """A threshold of the decision rule, and what stands behind it.

    ``target`` is the highest wished share of patients with an error among the accepted, ``bound`` the upper confidence bound
    of it (Clopper and Pearson, over ``patients`` who have an accepted image, ``errors`` of whom have one that is accepted
    wrongly); ``coverage`` the share of images that are accepted. ``met`` tells whether the bound lies within the target.
    """

    threshold: Probability
    target: Probability
    bound: Probability
    level: Probability = 0.95
    errors: Count
    patients: Count
    images: Count
    coverage: Probability
    met: bool


class DriftReference(Struct, frozen=True, kw_only=True):
    """What drift is measured from: quantiles of the quality figures at ``levels``, and the shares of the planes.

    Mean and covariance of the embedding, where there is one, lie in the file ``drift_file`` of the evidence.
    """

    levels: list[Probability]
    quality: dict[str, list[float]]
    class_prior: dict[str, Probability]
    images: Count


class PrecisionGate(Struct, frozen=True, kw_only=True):
    """How a precision compares with ``f32`` on images that no weight was fitted on.

    ``agreement`` is the share of images whose likeliest plane stays, ``agreement_low`` the lower bound of its
    patient-clustered interval, ``decision_agreement`` the share whose decision stays. ``macro_f1_loss`` is what is lost of
    it; ``worst_plane`` loses most, the share ``worst_plane_loss``, of its recall. ``largest_difference`` is that of a
    probability. ``missed`` names what was not kept or could not be judged, limits by their names in the intended use.
    """

    images: Count
    patients: Count = 0
    agreement: Probability
    agreement_low: Probability | None = None
    decision_agreement: Probability | None = None
    macro_f1_loss: float | None = None
    worst_plane: str = ""
    worst_plane_loss: float | None = None
    largest_difference: float
    passed: bool
    missed: list[str] = []


class UseStatement(Struct, frozen=True, kw_only=True):
    """What the model is for; ``digest`` is that of the intended use by which it was judged."""

    text: str
    population: str = ""
    forbidden: list[str] = []
    digest: Sha256 | None = None


class Evidence(Struct, frozen=True, kw_only=True):
    """All of it. None, and an empty list or mapping, mean "not available".

    ``code_digest`` and ``recipe_digest`` name the code and the recipe of the training, ``thresholds`` is keyed by head
    (``planes``, ``brain_planes``), ``figures`` by data set, then by figure. ``false_alarms`` is the share of images in scope
    that score above the limit, by source; ``faithfulness`` holds figures of the explanations, ``serving_joules`` the energy of
    an image in serving, modelled from its processor time. ``planes_never_named`` are planes that a foreign network has no
    class for. ``images_file`` records the images that the model was made from (`fetalmlops.domain.learning.provenance`).
    """

    intended_use: UseStatement | None = None
    data: list[DataEntry] = []
    code_digest: Sha256 | None = None
    recipe_digest: Sha256 | None = None
    thresholds: dict[str, SelectiveThreshold] = {}
    false_alarms: dict[str, Probability] = {}
    figures: dict[str, dict[str, Estimate]] = {}
    faithfulness: dict[str, float] = {}
    drift: DriftReference | None = None
    drift_file: FileName | None = None
    gates: dict[str, PrecisionGate] = {}
    serving_joules: float | None = None
    adapted_from: Sha256 | None = None
    planes_never_named: list[str] = []
    images_file: FileName | None = None
