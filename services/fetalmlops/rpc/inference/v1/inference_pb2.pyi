from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassifyRequest(_message.Message):
    __slots__ = ("options", "frames")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    options: ClassifyOptions
    frames: FrameChunk
    def __init__(self, options: _Optional[_Union[ClassifyOptions, _Mapping]] = ..., frames: _Optional[_Union[FrameChunk, _Mapping]] = ...) -> None: ...

class ClassifyFrameRequest(_message.Message):
    __slots__ = ("options", "frame")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    options: ClassifyOptions
    frame: FrameChunk
    def __init__(self, options: _Optional[_Union[ClassifyOptions, _Mapping]] = ..., frame: _Optional[_Union[FrameChunk, _Mapping]] = ...) -> None: ...

class ClassifyFrameResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: ClassifyResponse
    def __init__(self, result: _Optional[_Union[ClassifyResponse, _Mapping]] = ...) -> None: ...

class ClassifyOptions(_message.Message):
    __slots__ = ("want_embedding", "want_explanation", "bundle_digest", "plane_labels", "pipeline_digest", "role")
    WANT_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    WANT_EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLANE_LABELS_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    want_embedding: bool
    want_explanation: bool
    bundle_digest: str
    plane_labels: _containers.RepeatedScalarFieldContainer[str]
    pipeline_digest: str
    role: str
    def __init__(self, want_embedding: _Optional[bool] = ..., want_explanation: _Optional[bool] = ..., bundle_digest: _Optional[str] = ..., plane_labels: _Optional[_Iterable[str]] = ..., pipeline_digest: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class FrameChunk(_message.Message):
    __slots__ = ("rows", "columns", "frame_numbers", "pixels", "sha256")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FRAME_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    frame_numbers: _containers.RepeatedScalarFieldContainer[int]
    pixels: bytes
    sha256: bytes
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., frame_numbers: _Optional[_Iterable[int]] = ..., pixels: _Optional[bytes] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("model", "planes", "brain_planes", "frames", "best_frame_number", "ood_score", "decision", "embedding", "explanation", "timing", "not_available", "energy")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PLANES_FIELD_NUMBER: _ClassVar[int]
    BRAIN_PLANES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    BEST_FRAME_NUMBER_FIELD_NUMBER: _ClassVar[int]
    OOD_SCORE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    NOT_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    model: ModelIdentity
    planes: _containers.RepeatedCompositeFieldContainer[LabelProbability]
    brain_planes: _containers.RepeatedCompositeFieldContainer[LabelProbability]
    frames: _containers.RepeatedCompositeFieldContainer[FrameResult]
    best_frame_number: int
    ood_score: float
    decision: Decision
    embedding: _containers.RepeatedScalarFieldContainer[float]
    explanation: ActivationMap
    timing: Timing
    not_available: _containers.RepeatedScalarFieldContainer[str]
    energy: Energy
    def __init__(self, model: _Optional[_Union[ModelIdentity, _Mapping]] = ..., planes: _Optional[_Iterable[_Union[LabelProbability, _Mapping]]] = ..., brain_planes: _Optional[_Iterable[_Union[LabelProbability, _Mapping]]] = ..., frames: _Optional[_Iterable[_Union[FrameResult, _Mapping]]] = ..., best_frame_number: _Optional[int] = ..., ood_score: _Optional[float] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., embedding: _Optional[_Iterable[float]] = ..., explanation: _Optional[_Union[ActivationMap, _Mapping]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., not_available: _Optional[_Iterable[str]] = ..., energy: _Optional[_Union[Energy, _Mapping]] = ...) -> None: ...

class ModelIdentity(_message.Message):
    __slots__ = ("name", "version", "bundle_digest", "precision", "engine", "release_status", "decision_digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_STATUS_FIELD_NUMBER: _ClassVar[int]
    DECISION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    bundle_digest: str
    precision: str
    engine: str
    release_status: str
    decision_digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., precision: _Optional[str] = ..., engine: _Optional[str] = ..., release_status: _Optional[str] = ..., decision_digest: _Optional[str] = ...) -> None: ...

class LabelProbability(_message.Message):
    __slots__ = ("label", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class FrameResult(_message.Message):
    __slots__ = ("frame_number", "plane", "probability", "weight", "ood_score")
    FRAME_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    OOD_SCORE_FIELD_NUMBER: _ClassVar[int]
    frame_number: int
    plane: str
    probability: float
    weight: float
    ood_score: float
    def __init__(self, frame_number: _Optional[int] = ..., plane: _Optional[str] = ..., probability: _Optional[float] = ..., weight: _Optional[float] = ..., ood_score: _Optional[float] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("outcome", "reasons")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, outcome: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class ActivationMap(_message.Message):
    __slots__ = ("plane", "frame_number", "rows", "columns", "values")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    FRAME_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    plane: str
    frame_number: int
    rows: int
    columns: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, plane: _Optional[str] = ..., frame_number: _Optional[int] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("preparation_ms", "inference_ms", "total_ms")
    PREPARATION_MS_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    preparation_ms: float
    inference_ms: float
    total_ms: float
    def __init__(self, preparation_ms: _Optional[float] = ..., inference_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class Energy(_message.Message):
    __slots__ = ("joules", "method", "source")
    JOULES_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    joules: float
    method: str
    source: str
    def __init__(self, joules: _Optional[float] = ..., method: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class GetModelMetadataRequest(_message.Message):
    __slots__ = ("role",)
    ROLE_FIELD_NUMBER: _ClassVar[int]
    role: str
    def __init__(self, role: _Optional[str] = ...) -> None: ...

class GetModelMetadataResponse(_message.Message):
    __slots__ = ("model", "input_rows", "input_columns", "plane_labels", "brain_plane_labels", "embedding_length", "manifest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUT_ROWS_FIELD_NUMBER: _ClassVar[int]
    INPUT_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    PLANE_LABELS_FIELD_NUMBER: _ClassVar[int]
    BRAIN_PLANE_LABELS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    model: ModelIdentity
    input_rows: int
    input_columns: int
    plane_labels: _containers.RepeatedScalarFieldContainer[str]
    brain_plane_labels: _containers.RepeatedScalarFieldContainer[str]
    embedding_length: int
    manifest: bytes
    def __init__(self, model: _Optional[_Union[ModelIdentity, _Mapping]] = ..., input_rows: _Optional[int] = ..., input_columns: _Optional[int] = ..., plane_labels: _Optional[_Iterable[str]] = ..., brain_plane_labels: _Optional[_Iterable[str]] = ..., embedding_length: _Optional[int] = ..., manifest: _Optional[bytes] = ...) -> None: ...
