"""The events. Changes within a version are additive: readers tolerate unknown fields and unknown words.

No event carries pixels or an identifier of a patient: pixels go by claim check (`ObjectRef`), keys are pseudonyms, staff
appear by account id. Times taken from DICOM data appear nowhere; ``revision`` and ``ce_time`` are processing times.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from fetalmlops.domain.contracts.planes import (
    BrainPlane,
    Decision,
    EnergyMethod,
    FrameMode,
    Lane,
    Mode,
    OpenEnum,
    Plane,
    Purpose,
    ReleaseStatus,
    Role,
    SectorShape,
)
from fetalmlops.domain.contracts.refusals import Count, Rectangle, RefusalDetails

__all__ = [
    "AlarmRaised",
    "AuditRecorded",
    "Context",
    "Deidentification",
    "Event",
    "EventQuarantined",
    "FramesNormalized",
    "FramesRef",
    "Header",
    "InstanceClassified",
    "InstanceDeidentified",
    "InstanceEvent",
    "InstanceReceived",
    "Lineage",
    "Measured",
    "ModelPromoted",
    "ObjectRef",
    "PipelineFrames",
    "Quality",
    "QuarantineKind",
    "QuarantineOutcome",
    "QuarantineResolved",
    "Severity",
]

Pseudonym = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="Keyed hash: 32 hexadecimal digits")]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256: 64 hexadecimal digits")]
EventId = Annotated[
    str, Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="CloudEvents id: a UUID")
]
Milliseconds = Annotated[int, Meta(ge=0, description="Milliseconds since the epoch, UTC")]
Origin = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}/[0-9a-f]{32}$",
        description="Arrival hour and object name of the phi instance; names its done marker",
    ),
]
Probability = Annotated[float, Meta(ge=0, le=1)]


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events."""


class ObjectRef(Struct, frozen=True, kw_only=True):
    """Claim check: where an object lies and what its bytes must be.

    ``uri`` is relative to the object store; its first segment is the zone (``phi`` or ``clean``). ``size`` is in bytes.
    """

    uri: Annotated[str, Meta(pattern="^(phi|clean)/")]
    sha256: Sha256
    size: Count
    media_type: str


class Context(Struct, frozen=True, kw_only=True):
    """Where an instance comes from; unchanged through all events.

    ``project`` names the pseudonym key, ``source`` and ``site`` come from the sources table, ``scanner`` and ``software``
    are keyed identities, ``patient`` to ``instance`` are keyed pseudonyms of the original identifiers.
    """

    project: str
    source: str
    site: str
    purpose: Purpose = Purpose.CLINICAL
    lane: Lane = Lane.LIVE
    mode: Mode = Mode.UNKNOWN
    scanner: Pseudonym
    software: Pseudonym
    patient: Pseudonym
    study: Pseudonym
    series: Pseudonym
    instance: Pseudonym


class InstanceEvent(Event, frozen=True, kw_only=True):
    """Base of the events of one instance.

    ``revision`` is the arrival of this content's first receipt: among contents of the same SOP Instance UID the highest is
    current, whatever the order in which they are processed.
    """

    content_id: Pseudonym
    revision: Milliseconds
    origin: Origin
    context: Context
    sop_class_uid: str


class InstanceReceived(InstanceEvent, frozen=True, kw_only=True):
    """An instance is durable in the phi zone (`object`: the Part 10 file as sent)."""

    object: ObjectRef
    transfer_syntax_uid: str


class Deidentification(Struct, frozen=True, kw_only=True):
    """What de-identification did: evidence without values.

    ``actions`` counts attributes by action (``removed``, ``emptied``, ``replaced``, ``kept``); ``pixel_action`` says why the
    pixels may be shown (``regions``: only the validated ultrasound regions were kept; ``device_profile``: only what the
    profile of the device keeps; ``person_mask``: only what a person has released; ``source_clean``: the source is declared
    clean; ``none``: no pixels); ``rectangles`` are the kept pixel areas as [x0, y0, x1, y1], upper bounds exclusive.
    ``device_profile`` is the digest of the profile that was used, ``release`` that of the record of a person's release.
    ``text_verdict`` says whether text was looked for in what is kept (``trusted``: the scanner has earned that it was not;
    ``untrusted-checked``, ``sampled-checked``; empty where text detection is off or there is no need), in how many
    ``text_passes``, which found so many texts that are allowed (``text_allowed``) and so many that a person's release has
    overruled (``text_overruled``).
    """

    edition: str
    profile: str
    rules_digest: Sha256
    actions: dict[str, Count]
    pixel_action: str
    rectangles: list[Rectangle] = []
    device_profile: str = ""
    release: str = ""
    text_verdict: str = ""
    text_passes: Count = 0
    text_allowed: Count = 0
    text_overruled: Count = 0


class InstanceDeidentified(InstanceEvent, frozen=True, kw_only=True):
    """A de-identified copy is in the clean zone (`object`: a Part 10 file)."""

    object: ObjectRef
    transfer_syntax_uid: str
    deidentification: Deidentification


class Quality(Struct, frozen=True, kw_only=True):
    """Deterministic quality figures of the frames, medians over the sampled frames.

    All are between 0 and 1: ``brightness`` and ``contrast`` are mean and standard deviation of the grey levels within the
    sector, ``sharpness`` is the mean gradient magnitude, ``saturation`` the share of pixels at 255, ``sector_share`` the
    share of the frame that the sector covers, ``overlay_share`` the share that was removed as overlay, ``colour_share`` the
    share of the sector that shows colour flow, ``blank_share`` the share of the frames that are blank or nearly so.
    """

    brightness: Probability
    contrast: Probability
    sharpness: Probability
    saturation: Probability
    sector_share: Probability
    overlay_share: Probability = 0.0
    colour_share: Probability = 0.0
    blank_share: Probability = 0.0


class FramesRef(Struct, frozen=True, kw_only=True):
    """The frames object: grey ``uint8`` frames of one size, at most 64, in chunks.

    ``frame_numbers`` are the DICOM frame numbers (from 1) of the sampled frames out of ``total_frames``; ``spacing`` is
    [row, column] in mm per pixel of these frames, absent where the regions give none. ``mode`` and ``sector`` are what the
    pipeline found; unknown where it does not look. ``context.mode`` is what the header says.
    """

    object: ObjectRef
    total_frames: Annotated[int, Meta(ge=1)]
    frame_numbers: Annotated[list[int], Meta(min_length=1, max_length=64)]
    rows: Annotated[int, Meta(ge=1, le=512)]
    columns: Annotated[int, Meta(ge=1, le=512)]
    spacing: tuple[float, float] | None = None
    quality: Quality
    mode: FrameMode = FrameMode.UNKNOWN
    sector: SectorShape = SectorShape.UNKNOWN


class PipelineFrames(Struct, frozen=True, kw_only=True):
    """Frames of the same instance by a further pipeline."""

    pipeline_digest: Sha256
    frames: FramesRef


class FramesNormalized(InstanceEvent, frozen=True, kw_only=True):
    """Frames are ready for any model that was made for their pipeline.

    ``frames`` is null for SOP classes without an image, and otherwise made by the pipeline of ``pipeline_digest``. ``others``
    holds those of further pipelines, while models change from one to another.
    """

    frames: FramesRef | None
    pipeline_digest: Sha256
    others: list[PipelineFrames] = []
    deidentified_sha256: Sha256
    rules_digest: Sha256
    profile: str


class Lineage(Struct, frozen=True, kw_only=True):
    """Everything that decided a result."""

    deidentified_sha256: Sha256
    frames_sha256: Sha256 | None
    profile: str
    rules_digest: Sha256
    pipeline_digest: Sha256
    bundle: str = ""
    bundle_version: str = ""
    bundle_digest: Sha256 | None = None
    precision: str = ""
    engine: str = ""
    decision_digest: Sha256 | None = None


class Measured(Struct, frozen=True, kw_only=True):
    """Measurements of this very run: they stand outside the event's identity.

    ``inference_ms`` is the time of the gRPC call; ``since_arrival_ms`` the time from the instance's arrival to its result.
    ``joules`` is the energy that the inference took, idle power apart, null where it is not known; ``energy_method`` says how
    it is.
    """

    inference_ms: float = 0.0
    since_arrival_ms: float = 0.0
    joules: float | None = None
    energy_method: EnergyMethod | None = None


class InstanceClassified(InstanceEvent, frozen=True, kw_only=True):
    """The result for one instance.

    ``probabilities`` are calibrated and keyed by plane; ``plane`` is the likeliest one, null where ``decision`` is
    ``not_applicable``. ``best_frame`` is a DICOM frame number (from 1). ``overlay`` is the explanation drawn over that frame, a
    picture that is kept where the policy asks for it. ``supersedes`` is the ``ce_id`` of the result that this one replaces.
    """

    role: Role
    decision: Decision
    plane: Plane | None = None
    probabilities: dict[str, Probability] = {}
    brain_probabilities: dict[str, Probability] = {}
    brain_plane: BrainPlane | None = None
    confidence: Probability | None = None
    ood_score: float | None = None
    reasons: list[str] = []
    quality: Quality | None = None
    best_frame: Annotated[int, Meta(ge=1)] | None = None
    explanation: ObjectRef | None = None
    embedding: ObjectRef | None = None
    overlay: ObjectRef | None = None
    release_status: ReleaseStatus = ReleaseStatus.UNKNOWN
    supersedes: EventId | None = None
    lineage: Lineage
    measured: Measured = Measured()


class ModelPromoted(Event, frozen=True, kw_only=True):
    """A bundle serves from now on in a role. ``manifest`` names its manifest, which holds the digests of all its files.

    ``replaces`` is the digest of the bundle that had the role before. ``rollback`` says that the role goes back to a bundle
    that had it before, ``retired`` that the named bundle's role ends, and nobody has it from then on.
    """

    model: str
    version: str
    role: Role
    bundle_digest: Sha256
    manifest: ObjectRef
    release_status: ReleaseStatus
    actor: str
    reason: str
    replaces: Sha256 | None = None
    rollback: bool = False
    retired: bool = False


class QuarantineKind(OpenEnum):
    """Why an event is in quarantine: ``transient`` entries are replayed by the keeper, the others wait for a person."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    DEADLY = "deadly"
    UNKNOWN = "unknown"


class Header(Struct, frozen=True, kw_only=True):
    """One record header of the original; ``value`` is base64 in JSON."""

    name: str
    value: bytes


class EventQuarantined(Event, frozen=True, kw_only=True):
    """An event that a stage could not handle, kept whole.

    ``value`` holds the original bytes up to 256 KiB, ``value_ref`` refers to larger ones. An entry of the phi zone has a
    twin in the clean zone with the same ``entry_id``, ``zone`` phi and no value, headers, message or details.
    """

    entry_id: EventId
    zone: Annotated[str, Meta(pattern="^(phi|clean)$")]
    stage: str
    kind: QuarantineKind
    reason: str
    message: str = ""
    details: RefusalDetails | None = None
    attempts: Annotated[int, Meta(ge=0)] = 1
    replay_number: Count = 0
    topic: str
    partition: int = -1
    offset: int = -1
    key: str = ""
    content_id: Pseudonym | None = None
    origin: Origin | None = None
    context: Context | None = None
    value: bytes | None = None
    value_ref: ObjectRef | None = None
    headers: list[Header] = []


class QuarantineOutcome(OpenEnum):
    """How a quarantine entry ended: by a replay, because its content has a result by another way, or dropped by a person."""

    REPLAYED = "replayed"
    CLASSIFIED = "classified"
    DROPPED = "dropped"
    UNKNOWN = "unknown"


class QuarantineResolved(Event, frozen=True, kw_only=True):
    """A quarantine entry is closed: by whom, how and why."""

    entry_id: EventId
    outcome: QuarantineOutcome
    actor: str
    reason: str = ""


class Severity(OpenEnum):
    """How soon a person has to act on an alarm."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class AlarmRaised(Event, frozen=True, kw_only=True):
    """Something needs a person: what, since when, and what to do."""

    process: str
    what: str
    severity: Severity
    since: Milliseconds
    remedy: str


class AuditRecorded(Event, frozen=True, kw_only=True):
    """Who did what to which subject; no value of patient data.

    ``subject`` is a pseudonym, an entry id or a digest; ``details`` says what else belongs to the deed, such as the digest of
    its record.
    """

    process: str
    actor: str
    action: str
    subject: str
    outcome: str
    reason: str = ""
    details: dict[str, str] = {}
