"""The manifest of a bundle: what a model is, what it was made from, and the digests of all its files.

The manifest is JSON; the SHA-256 of its bytes is the bundle's digest, and so names every byte of the bundle.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from fetalmlops.domain.contracts.events import Probability, Sha256
from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, OpenEnum, ReleaseStatus
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.engine import OUTPUT_NAMES
from fetalmlops.domain.models.evidence import Evidence

__all__ = [
    "FIRST_PIPELINE",
    "FORMAT",
    "MANIFEST_NAME",
    "Calibration",
    "DecisionRule",
    "Energy",
    "FileEntry",
    "Fit",
    "InputSpec",
    "Levels",
    "Manifest",
    "PipelineEntry",
    "Precision",
    "Provenance",
    "SourceEntry",
    "Variant",
    "decode_manifest",
    "encode_manifest",
]

FORMAT: Final = 1
"""Version of the bundle's layout that this code reads and writes."""

MANIFEST_NAME: Final = "manifest.json"
"""Name of the manifest among a bundle's files."""

FileName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Name without folders")]
OptionalFileName = Annotated[
    str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?$", description="Name without folders; empty for none")
]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
Temperature = Annotated[float, Meta(gt=0, le=100)]
Side = Annotated[int, Meta(ge=16, le=1024, description="Pixels")]


class Fit(OpenEnum):
    """How a frame is brought to the network's input: its aspect kept, with black beside it, or stretched."""

    PAD = "pad"
    STRETCH = "stretch"
    UNKNOWN = "unknown"


class Precision(OpenEnum):
    """Arithmetic of an engine."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    UNKNOWN = "unknown"


class Levels(OpenEnum):
    """Levels of the network's input: each frame with mean 0 and standard deviation 1, or grey levels from 0 to 1."""

    STANDARDISED = "standardised"
    UNIT = "unit"
    UNKNOWN = "unknown"


class InputSpec(Struct, frozen=True, kw_only=True):
    """The network's input: ``float32`` of [frames, 1, rows, columns]; ``levels`` says of which levels."""

    rows: Side
    columns: Side
    fit: Fit = Fit.PAD
    levels: Levels = Levels.STANDARDISED


class PipelineEntry(Struct, frozen=True, kw_only=True):
    """The normalisation that made the training's frames, and must make those that are classified.

    ``name`` is for readers; ``digest`` is that of `fetalmlops.domain.imaging.pipelines.normalize.Pipeline`, and decides.
    """

    name: Name
    digest: Sha256


FIRST_PIPELINE: Final = PipelineEntry(
    name="plain", digest="d9788963f6ac40a4c51539d1e1b4e3b847775f00591ee7591b23924305922655"
)
"""What a manifest means that names no pipeline: when it was sealed, there was no other."""


class Calibration(Struct, frozen=True, kw_only=True):
    """Temperatures by which the logits are divided (Guo et al. 2017)."""

    temperature: Temperature = 1.0
    brain_temperature: Temperature = 1.0


class DecisionRule(Struct, frozen=True, kw_only=True):
    """When a result is accepted.

    ``accept`` is the least probability of the likeliest plane, ``accept_brain`` that of the likeliest brain sub-plane where
    the plane is brain; ``ood_limit`` the highest out-of-scope score; ``least_contrast`` the least standard deviation of the
    best frame's grey levels, as a share of 255.
    """

    accept: Probability
    accept_brain: Probability
    ood_limit: Annotated[float, Meta(gt=0)] = 1.0
    least_contrast: Probability = 0.02


class Variant(Struct, frozen=True, kw_only=True):
    """The network in one precision; ``tolerance`` bounds how far its probabilities may lie from the reference outputs."""

    file: FileName
    tolerance: Probability


class FileEntry(Struct, frozen=True, kw_only=True):
    """One file of the bundle; ``size`` in bytes."""

    sha256: Sha256
    size: Annotated[int, Meta(ge=0)]
    media_type: str


class SourceEntry(Struct, frozen=True, kw_only=True):
    """Data or weights that the model was made from."""

    name: str
    licence: str
    description: str


class Energy(Struct, frozen=True, kw_only=True):
    """Energy of the training; ``method`` is ``measured``, ``modelled`` or ``unknown``."""

    method: str
    kwh: float | None = None
    co2e_g: float | None = None
    tool: str = ""


class Provenance(Struct, frozen=True, kw_only=True):
    """How the model was made, so that it can be made again.

    ``code`` is the package's version, ``data_digest`` the SHA-256 over all training images and labels in order.
    """

    recipe: str
    code: str
    seed: int
    data_digest: Sha256
    environment: dict[str, str]
    seconds: float
    energy: Energy


class Manifest(Struct, frozen=True, kw_only=True):
    """The whole manifest.

    ``planes`` and ``brain_planes`` are the labels in the order of the outputs. ``variants`` is keyed by precision;
    ``default_precision`` names the one that serves unless settings say otherwise. ``metrics`` is keyed by data set, then
    by metric. ``weights``, ``ood``, ``reference`` and ``card`` name files.
    ``pipeline`` is the normalisation that the model was made for. ``outputs`` are those of the engine's outputs that the
    network gives; what needs another one is not available: no brain sub-planes, no file ``ood``, no embedding. ``weights``
    is empty, or the network's own file, where they stand in that alone. ``evidence`` is what is known beyond what serving
    needs.
    """

    format: int = FORMAT
    name: Name
    version: Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+$")]
    release_status: ReleaseStatus
    licence: str
    parameters: Annotated[int, Meta(ge=1)]
    planes: list[str]
    brain_planes: list[str]
    pipeline: PipelineEntry = FIRST_PIPELINE
    outputs: tuple[str, ...] = OUTPUT_NAMES
    input: InputSpec
    calibration: Calibration
    decision: DecisionRule
    embedding_length: Annotated[int, Meta(ge=0)]
    variants: Annotated[dict[Precision, Variant], Meta(min_length=1)]
    default_precision: Precision = Precision.F32
    weights: OptionalFileName = "weights.safetensors"
    ood: OptionalFileName = "ood.safetensors"
    reference: FileName = "reference.safetensors"
    card: FileName = "card.md"
    metrics: dict[str, dict[str, float]]
    sources: list[SourceEntry]
    provenance: Provenance
    files: dict[FileName, FileEntry] = {}
    evidence: Evidence = Evidence()

    @property
    def lacking(self) -> list[str]:
        """What results of this bundle do not have, as the wire names it."""
        given = {
            "brain_planes": bool(self.brain_planes),
            "ood_score": bool(self.ood),
            "embedding": "embedding" in self.outputs,
            "explanation": "maps" in self.outputs,
        }
        return [name for name, there in given.items() if not there]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as JSON, indented for readers; the same manifest gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises
    ------
    ContractError
        If it is not JSON, breaks the schema, is of another format, or has other labels than the planes of this version.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"Expected {MANIFEST_NAME} of format {FORMAT}, got one that breaks it: {error}; rebuild the bundle"
        raise ContractError(msg, reason="bundle") from None
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        msg = f"Expected a bundle of format {FORMAT}, got {manifest.format}; serve it with the release that made it"
        raise ContractError(msg, reason="bundle")
    if manifest.planes != [*PLANES] or manifest.brain_planes not in ([*BRAIN_PLANES], []):
        msg = f"Expected the labels {[*map(str, PLANES)]} and {[*map(str, BRAIN_PLANES)]}, got others; retrain on them"
        raise ContractError(msg, reason="labels")
    _check_outputs(manifest)
    if manifest.input.fit is Fit.UNKNOWN or manifest.input.levels is Levels.UNKNOWN:
        msg = f"Expected the fit {Fit.PAD} or {Fit.STRETCH} and known levels, got others; serve it with its own release"
        raise ContractError(msg, reason="bundle")
    if manifest.default_precision not in manifest.variants:
        msg = f"Expected a variant of the default precision {manifest.default_precision}, got none; add it"
        raise ContractError(msg, reason="bundle")
    named = {manifest.reference, manifest.card, *(variant.file for variant in manifest.variants.values())}
    evidence = manifest.evidence
    named.update(name for name in (manifest.weights, manifest.ood, evidence.drift_file, evidence.images_file) if name)
    if missing := sorted(named.difference(manifest.files)):
        msg = f"Expected an entry for each named file, got none for {', '.join(missing)}; seal the bundle again"
        raise ContractError(msg, reason="bundle")


def _check_outputs(manifest: Manifest) -> None:
    given = set(manifest.outputs)
    unknown = given.difference(OUTPUT_NAMES)
    agrees = (
        "logits" in given
        and ("brain_logits" in given) == bool(manifest.brain_planes)
        and ("embedding" in given) == bool(manifest.embedding_length)
        and ("features" in given or not manifest.ood)
    )
    if unknown or not agrees:
        msg = (
            "Expected outputs that agree with brain_planes, embedding_length and ood, got others; seal the bundle again"
        )
        raise ContractError(msg, reason="bundle")
