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

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "Calibration",
    "DecisionRule",
    "Energy",
    "FileEntry",
    "Fit",
    "InputSpec",
    "Manifest",
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


class InputSpec(Struct, frozen=True, kw_only=True):
    """The network's input: ``float32`` of [frames, 1, rows, columns], each frame with mean 0 and standard deviation 1."""

    rows: Side
    columns: Side
    fit: Fit = Fit.PAD


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
    """

    format: int = FORMAT
    name: Name
    version: Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+$")]
    release_status: ReleaseStatus
    licence: str
    parameters: Annotated[int, Meta(ge=1)]
    planes: list[str]
    brain_planes: list[str]
    input: InputSpec
    calibration: Calibration
    decision: DecisionRule
    embedding_length: Annotated[int, Meta(ge=1)]
    variants: Annotated[dict[Precision, Variant], Meta(min_length=1)]
    default_precision: Precision = Precision.F32
    weights: FileName = "weights.safetensors"
    ood: FileName = "ood.safetensors"
    reference: FileName = "reference.safetensors"
    card: FileName = "card.md"
    metrics: dict[str, dict[str, float]]
    sources: list[SourceEntry]
    provenance: Provenance
    files: dict[FileName, FileEntry] = {}


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
    if manifest.planes != [*PLANES] or manifest.brain_planes != [*BRAIN_PLANES]:
        msg = f"Expected the labels {[*map(str, PLANES)]} and {[*map(str, BRAIN_PLANES)]}, got others; retrain on them"
        raise ContractError(msg, reason="labels")
    if manifest.input.fit is Fit.UNKNOWN:
        msg = f"Expected the fit {Fit.PAD} or {Fit.STRETCH}, got another; serve it with the release that made it"
        raise ContractError(msg, reason="bundle")
    if manifest.default_precision not in manifest.variants:
        msg = f"Expected a variant of the default precision {manifest.default_precision}, got none; add it"
        raise ContractError(msg, reason="bundle")
    named = {manifest.weights, manifest.ood, manifest.reference, manifest.card}
    named.update(variant.file for variant in manifest.variants.values())
    if missing := sorted(named.difference(manifest.files)):
        msg = f"Expected an entry for each named file, got none for {', '.join(missing)}; seal the bundle again"
        raise ContractError(msg, reason="bundle")
