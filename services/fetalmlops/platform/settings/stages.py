"""What only one process has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fetalmlops.platform.settings.connections import TlsSettings
from fetalmlops.platform.settings.section import Bytes, Port, Seconds, Section

__all__ = [
    "AnonymizerSettings",
    "ClassifierSettings",
    "GatewaySettings",
    "InferenceSettings",
    "KeeperSettings",
    "ListenerSettings",
    "NormalizerSettings",
]


class ListenerSettings(Section):
    """The DICOM listener."""

    host: str = "127.0.0.1"
    """Address to listen on; ``0.0.0.0`` to be reached by a PACS."""
    port: Port = 11112
    """Port; 0 takes a free one."""
    ae_title: Annotated[str, Field(min_length=1, max_length=16)] = "FETALMLOPS"
    """Our AE title."""
    check_called_ae_title: bool = True
    """Whether associations to another called AE title are rejected."""
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 25
    """Associations at once; more are rejected as a transient condition."""
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=4 * 1024 * 1024)] = 131072
    """Longest PDU we accept, in bytes: it is held in memory."""
    network_timeout_s: Seconds = 60.0
    """Silence on a connection after which it is closed."""
    acse_timeout_s: Seconds = 30.0
    """Time that an association negotiation may take."""
    dimse_timeout_s: Seconds = 60.0
    """Time that one DIMSE message may take."""
    max_instance_bytes: Bytes = 4 * 1024**3
    """Longest dataset we accept, in bytes."""
    reserve_bytes: Bytes = 1024**3
    """Free disk space below which C-STORE answers 0xA700: room for Kafka and Valkey."""
    sweep_interval_s: Seconds = 15.0
    """Time between sweeps for instances without a done marker."""
    sweep_first_s: Seconds = 60.0
    """Age at which an unfinished instance is announced again; doubles up to `sweep_last_s`."""
    sweep_last_s: Seconds = 3600.0
    """Longest time between two announcements of one instance."""
    drain_timeout_s: Seconds = 30.0
    """Time that open associations get to finish after SIGTERM."""
    tls: TlsSettings = TlsSettings()
    """TLS of incoming associations."""


class NormalizerSettings(Section):
    """Decoding: children under limits (used by the anonymizer and the normalizer); and how frames are normalised."""

    children: Annotated[int, Field(ge=1, le=64)] = 2
    """Decoding children of one worker; with one alone, a long cine holds up the live frames."""
    child_memory_bytes: Bytes = 1024**3
    """Memory that a decoding child may allocate."""
    pipelines: Annotated[tuple[Literal["plain", "harmonised"], ...], Field(min_length=1)] = ("plain",)
    """Normalisation pipelines that run, in this order; more than one only while models change to another, because each
    decodes anew. The inference service serves bundles of these alone, so it must know the same."""


class AnonymizerSettings(Section):
    """De-identification of pixels."""

    text_detection: bool = True
    """Whether text is looked for in the pixels that are kept; other text than measurements sends an image to quarantine. A pass
    takes 0.2 to 0.5 s of one core (one for an image, two for a clip), so trusted scanners are only sampled."""
    text_children: Annotated[int, Field(ge=1, le=64)] = 1
    """Children of one worker that look for text, started with the first image that is to be checked; each takes up to 1 GB."""
    text_child_memory_bytes: Bytes = 4 * 1024**3
    """Address space that such a child may allocate; one that has kept half of it is replaced."""
    trust_clean_images: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Images without text, one after the other, after which a scanner is trusted."""
    trust_sample_one_in: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Of a trusted scanner's images one in this many is checked nevertheless; 1 checks all."""


class InferenceSettings(Section):
    """The gRPC inference service and its clients."""

    host: str = "127.0.0.1"
    """Address to listen on, and to reach it at."""
    port: Port = 50051
    """Port; 0 takes a free one."""
    processes: Annotated[int, Field(ge=0, le=256)] = 1
    """Processes that share the port; 0 for one a core. Several of one thread do more than one of several."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of the engine of each process."""
    max_batch: Annotated[int, Field(ge=1, le=256)] = 16
    """Frames in one engine call."""
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Time a frame waits for others although the engine is free; pays only where the engine is faster on full batches."""
    queue_frames: Annotated[int, Field(ge=1)] = 256
    """Frames that may wait in each process, and calls that it may have in work; more are refused with RESOURCE_EXHAUSTED."""
    message_timeout_s: Seconds = 5.0
    """Time that a caller has to send its next message of frames."""
    hang_s: Seconds = 60.0
    """Time after which a process that says nothing, or whose engine does not end a run, is ended and started again."""
    timeout_s: Seconds = 10.0
    """Deadline of a client's call."""
    bundle: Literal["demonstration", "fetal-planes"] = "demonstration"
    """Bundle of the package that is promoted where no promotion exists: ``demonstration`` knows the simulator's phantoms,
    ``fetal-planes`` real images. What was promoted once stays until another promotion."""
    precision: Literal["", "f32", "bf16", "int8"] = ""
    """Precision variant to serve; empty takes the bundle's default. A machine that does not compute in it serves nothing."""
    precision_fallback: bool = False
    """Whether a machine that does not compute in that precision serves f32 instead: other results, which say so."""
    engine: Literal["openvino", "torch"] = "openvino"
    """What runs the network: ``openvino`` on a CPU, ``torch`` (the extra of that name) on a CPU or a GPU."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where ``torch`` runs it."""
    protocol: Literal["fetalmlops", "open-inference"] = "fetalmlops"
    """How the classifier asks: our own service, or a server of the Open Inference Protocol that holds the promoted bundle's
    network."""
    open_inference_target: str = ""
    """``host:port`` of that server; empty takes ours, which speaks both."""
    shadow: bool = False
    """Whether a shadow is served beside the champion; the process ``shadow`` has it judge what the champion judges."""
    tls: TlsSettings = TlsSettings()
    """TLS of the service and of its clients."""


class KeeperSettings(Section):
    """Replay, retention and the lease by which one keeper is active."""

    lease_s: Seconds = 15.0
    """Time after which a silent keeper's lease passes to another."""
    replay_first_s: Seconds = 15.0
    """Delay before a parked event is replayed; doubles with each replay."""
    replay_last_s: Seconds = 3600.0
    """Longest delay between two replays."""
    retention_interval_s: Seconds = 3600.0
    """Time between two runs of the retention."""
    phi_days: Annotated[float, Field(gt=0)] = 7.0
    """Days that a phi instance stays after its end."""
    clean_days: Annotated[float, Field(gt=0)] = 30.0
    """Days that clean instances, frames, explanations, embeddings and overlays stay."""


class ClassifierSettings(Section):
    """The classifier."""

    overlays: Literal["none", "review", "all"] = "none"
    """Whose map is drawn over its frame and kept as a picture: nobody's, that of results a person is to look at (every
    decision but ``accept``), or all results'."""


class GatewaySettings(Section):
    """The REST gateway."""

    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback needs keys (`fetalmlops keys gateway add`)."""
    port: Port = 8080
    """Port; 0 takes a free one."""
    keys_path: Path | None = None
    """Digests of the callers' keys; default: ``gateway-keys.toml`` in ``secrets`` of the state folder."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=1024**3)] = 128 * 1024**2
    """Longest file that is accepted, in bytes; it is held in memory."""
    max_buffered_bytes: Annotated[int, Field(ge=1024)] = 512 * 1024**2
    """Bytes of files held at once; a request that would take more is answered 503."""
    max_requests: Annotated[int, Field(ge=1, le=1024)] = 32
    """Classifications at once; more are answered 503."""
    max_connections: Annotated[int, Field(ge=1, le=65536)] = 512
    """Connections at once; more are answered 503 and closed."""
    upload_timeout_s: Seconds = 30.0
    """Time that a file may take to arrive."""
    decode_timeout_s: Seconds = 15.0
    """Time that one file may take to be de-identified, decoded and normalised."""
    timeout_s: Seconds = 30.0
    """Time that a classification may take once its file has arrived."""
    children: Annotated[int, Field(ge=1, le=64)] = 2
    """Children that decode."""
    child_memory_bytes: Bytes = 1024**3
    """Memory that such a child may allocate."""
    pixels: Literal["validate", "regions", "clean"] = "validate"
    """What is known of the pixels that callers send, as of a source: ``clean``, they show no identifier; ``regions``, none
    where a DICOM file's regions or a device profile prove the pixels; ``validate``, nothing. It decides whether an overlay
    shows the frame beneath it."""
    tls: TlsSettings = TlsSettings()
    """TLS of the callers' connections."""
