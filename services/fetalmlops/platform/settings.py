"""Settings: one class a concern, each field with its unit, range and default.

Later sources win: defaults, then ``run/embedded.toml`` of the state folder (written by ``fetalmlops up``: the ports and
credentials of the embedded servers), then ``fetalmlops.toml`` of the state folder, then environment variables
(``FETALMLOPS_KAFKA__BOOTSTRAP_SERVERS`` sets ``kafka.bootstrap_servers``). What must not stand in an environment comes
from files: one in the folder ``FETALMLOPS_SECRETS_DIR``, named as the variable, wins over the files above.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from fetalmlops.domain.errors import SettingsError

__all__ = [
    "AnonymizerSettings",
    "HealthSettings",
    "InferenceSettings",
    "KafkaSettings",
    "KeeperSettings",
    "ListenerSettings",
    "NormalizerSettings",
    "ObjectSettings",
    "Settings",
    "StreamSettings",
    "TelemetrySettings",
    "TlsSettings",
    "ValkeySettings",
    "home_folder",
    "load_settings",
]

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(ge=0)]

_SECRETS_DIR = "FETALMLOPS_SECRETS_DIR"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TlsSettings(_Section):
    """TLS of one connection. Certificates and keys are PEM files."""

    enabled: bool = False
    """Whether to use TLS; default off (loopback)."""
    ca_file: Path | None = None
    """Authorities that the other side's certificate must come from; default: the system's."""
    certificate_file: Path | None = None
    """Our certificate, for servers and for client authentication."""
    key_file: Path | None = None
    """Key of our certificate."""
    require_client_certificate: bool = False
    """For servers: refuse clients without a certificate of `ca_file`."""

    @model_validator(mode="after")
    def _check_enabled(self) -> Self:
        """Refuse certificates that nothing would use: the connection would be one in plain text."""
        if not self.enabled and (
            self.ca_file or self.certificate_file or self.key_file or self.require_client_certificate
        ):
            msg = "Expected enabled where files of TLS are named, got none; set enabled, or leave the files out"
            raise ValueError(msg)
        return self


class KafkaSettings(_Section):
    """The broker."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated ``host:port``."""
    replication_factor: Annotated[int, Field(ge=1, le=9)] = 1
    """Copies of each topic at its creation; 3 in a cluster."""
    min_insync_replicas: Annotated[int, Field(ge=1, le=9)] = 1
    """Copies that acknowledge a write; 2 in a cluster."""
    tls: TlsSettings = TlsSettings()
    """TLS of the connection."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """SASL mechanism; empty for none."""
    sasl_username: str = ""
    """SASL user."""
    sasl_password: SecretStr = SecretStr("")
    """SASL password."""

    @model_validator(mode="after")
    def _check_sasl(self) -> Self:
        """Refuse credentials that no mechanism would use: the connection would be one without any."""
        if bool(self.sasl_mechanism) != bool(self.sasl_username):
            msg = "Expected sasl_mechanism and sasl_username together, got one of them; set both, or neither"
            raise ValueError(msg)
        return self

    @property
    def security_protocol(self) -> str:
        """Kafka's ``security.protocol``."""
        return f"SASL_{self._transport}" if self.sasl_mechanism else self._transport

    @property
    def _transport(self) -> str:
        return "SSL" if self.tls.enabled else "PLAINTEXT"


class ValkeySettings(_Section):
    """The key-value server: vault, attempts, claims."""

    host: str = "127.0.0.1"
    """Host name."""
    port: Port = 6379
    """Port."""
    database: Annotated[int, Field(ge=0, le=15)] = 0
    """Database number."""
    username: str = ""
    """ACL user; empty for the default user."""
    password: SecretStr = SecretStr("")
    """Password; empty for none."""
    tls: TlsSettings = TlsSettings()
    """TLS of the connection."""


class ObjectSettings(_Section):
    """The object store, one place a zone, so that each zone has its own credentials."""

    phi_url: str = ""
    """``file:///folder`` or ``s3://bucket/prefix`` of the phi zone; default: ``objects/phi`` of the state folder."""
    clean_url: str = ""
    """The same for the clean zone; default: ``objects/clean`` of the state folder."""
    s3_endpoint: str = ""
    """Endpoint of an S3-compatible store; empty for AWS."""
    s3_region: str = "us-east-1"
    """Region."""
    s3_access_key_id: SecretStr = SecretStr("")
    """Access key; empty for the environment's credentials."""
    s3_secret_access_key: SecretStr = SecretStr("")
    """Secret key."""
    s3_allow_http: bool = False
    """Whether an endpoint without TLS is allowed."""
    s3_ca_file: Path | None = None
    """PEM file of authorities that the endpoint's certificate may come from, besides the system's."""


class StreamSettings(_Section):
    """How stages read their topics."""

    window: Annotated[int, Field(ge=1, le=1024)] = 16
    """Events in work at once in one worker."""
    window_bytes: Bytes = 64 * 1024 * 1024
    """Bytes of cited objects in work at once in one worker."""
    deadline_s: Seconds = 20.0
    """Time that one attempt at an event may take, for objects up to 1 MiB."""
    deadline_s_per_mib: Annotated[float, Field(ge=0)] = 1.0
    """Time added to the deadline for each further MiB of the cited object."""
    session_timeout_s: Seconds = 6.0
    """Time after which the broker gives a silent worker's partitions to others."""
    commit_interval_s: Seconds = 0.5
    """Time between commits of offsets."""
    instance: str = ""
    """Kafka's ``group.instance.id``, one a worker: one that is back within the session gets its partitions back at once."""
    deaths: Annotated[int, Field(ge=1, le=10)] = 3
    """Deaths of a process on an event, run alone, after which the event is quarantined unread."""


class TelemetrySettings(_Section):
    """Traces, metrics and logs."""

    otlp_endpoint: str = ""
    """``http://host:4317`` or ``https://host:4317`` of an OTLP gRPC receiver; empty: no trace leaves the process."""
    sampling_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the traces rooted here that are kept; a parent's decision wins."""
    tls: TlsSettings = TlsSettings()
    """TLS to the receiver; on wherever the endpoint is not ``http://``."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe level that is logged."""


class HealthSettings(_Section):
    """The HTTP endpoint of each process: ``/healthz``, ``/readyz``, ``/metrics``."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 0
    """Port; 0 takes a free one."""


class ListenerSettings(_Section):
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


class NormalizerSettings(_Section):
    """Decoding: children under limits (used by the anonymizer and the normalizer)."""

    children: Annotated[int, Field(ge=1, le=64)] = 2
    """Decoding children of one worker; with one alone, a long cine holds up the live frames."""
    child_memory_bytes: Bytes = 1024**3
    """Memory that a decoding child may allocate."""


class AnonymizerSettings(_Section):
    """De-identification of pixels."""

    text_detection: bool = False
    """Whether text is looked for in the pixels that are kept; other text than measurements sends an image to quarantine. A pass
    takes 0.2 to 0.5 s of one core (one for an image, two for a clip), so trusted scanners are only sampled. Default off: it is
    measured on simulated screens only."""
    trust_clean_images: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Images without text, one after the other, after which a scanner is trusted."""
    trust_sample_one_in: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Of a trusted scanner's images one in this many is checked nevertheless; 1 checks all."""


class InferenceSettings(_Section):
    """The gRPC inference service and its clients."""

    host: str = "127.0.0.1"
    """Address to listen on, and to reach it at."""
    port: Port = 50051
    """Port; 0 takes a free one."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of the engine."""
    max_batch: Annotated[int, Field(ge=1, le=256)] = 16
    """Frames in one engine call."""
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Time a frame waits for others although the engine is free; pays only where the engine is faster on full batches."""
    queue_frames: Annotated[int, Field(ge=1)] = 1024
    """Frames waiting; more are refused with RESOURCE_EXHAUSTED."""
    timeout_s: Seconds = 10.0
    """Deadline of a client's call."""
    precision: Literal["", "f32", "bf16", "int8"] = ""
    """Precision variant to serve; empty takes the bundle's default."""
    tls: TlsSettings = TlsSettings()
    """TLS of the service and of its clients."""


class KeeperSettings(_Section):
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
    """Days that clean instances, frames, explanations and embeddings stay."""


class Settings(BaseSettings):
    """All settings. `home` is the state folder (``FETALMLOPS_HOME``, default ``.fetalmlops``)."""

    model_config = SettingsConfigDict(
        env_prefix="FETALMLOPS_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    home: Path = Path(".fetalmlops")
    """State folder, mode 0700."""
    project: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]{0,31}$")] = "demonstration"
    """Id of the project to which the pseudonym key belongs."""
    sources_path: Path | None = None
    """The table of calling systems; default: ``sources.toml`` of the state folder."""
    devices_path: Path | None = None
    """Folder of device profiles, one TOML file each, read at the start; default: ``devices`` of the state folder."""
    provision_keys: bool = False
    """Whether this process may make missing keys; on in the embedded system only."""
    deidentification_profile: Literal["stream"] = "stream"
    """Profile that the anonymizer runs."""
    kafka: KafkaSettings = KafkaSettings()
    """The broker."""
    valkey: ValkeySettings = ValkeySettings()
    """The key-value server."""
    objects: ObjectSettings = ObjectSettings()
    """The object store."""
    stream: StreamSettings = StreamSettings()
    """How stages read their topics."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Traces, metrics and logs."""
    health: HealthSettings = HealthSettings()
    """The HTTP endpoint of each process."""
    listener: ListenerSettings = ListenerSettings()
    """The DICOM listener."""
    normalizer: NormalizerSettings = NormalizerSettings()
    """Decoding."""
    anonymizer: AnonymizerSettings = AnonymizerSettings()
    """De-identification of pixels."""
    inference: InferenceSettings = InferenceSettings()
    """The inference service."""
    keeper: KeeperSettings = KeeperSettings()
    """Replay and retention."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over mounted secrets, and those over the files, which arrive as initial values."""
        folder = os.environ.get(_SECRETS_DIR) or None
        secrets = NestedSecretsSettingsSource(file_secret_settings, secrets_dir=folder, secrets_dir_missing="ok")
        return env_settings, secrets, init_settings

    @property
    def secrets_folder(self) -> Path:
        """Folder of keys, readable by the owner only."""
        return self.home / "secrets"

    @property
    def sources_file(self) -> Path:
        """The table of calling systems."""
        return self.sources_path or self.home / "sources.toml"

    @property
    def devices_folder(self) -> Path:
        """Folder of device profiles."""
        return self.devices_path or self.home / "devices"

    @property
    def phi_url(self) -> str:
        """Place of the phi zone's objects."""
        return self.objects.phi_url or (self.home / "objects" / "phi").as_uri()

    @property
    def clean_url(self) -> str:
        """Place of the clean zone's objects."""
        return self.objects.clean_url or (self.home / "objects" / "clean").as_uri()


def home_folder() -> Path:
    """Return the absolute path of the state folder: ``FETALMLOPS_HOME``, or ``.fetalmlops`` here."""
    return Path(os.environ.get("FETALMLOPS_HOME") or ".fetalmlops").expanduser().absolute()


def load_settings(home: Path | None = None) -> Settings:
    """Read the settings.

    Parameters
    ----------
    home
        State folder; default `home_folder`.

    Raises
    ------
    SettingsError
        If a file is not TOML, a mounted secret cannot be read, or a setting is unknown or out of range; names the
        setting, never its value.
    """
    folder = (home or home_folder()).absolute()
    values: dict[str, Any] = {}
    for name in ("run/embedded.toml", "fetalmlops.toml"):
        _merge(values, _read_toml(folder / name))
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        msg = f"Expected settings of {folder / 'fetalmlops.toml'} that exist, got {', '.join(unknown)}; remove or rename them"
        raise SettingsError(msg)
    try:
        return Settings(**values).model_copy(update={"home": folder})
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Expected readable text files in {_SECRETS_DIR}, got {type(error).__name__}; mend them or their rights"
        raise SettingsError(msg) from None
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)
        )
        msg = f"Expected valid settings, got {places}; see the settings in docs/operations.md"
        raise SettingsError(msg) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"Expected {path} to be TOML, got an error: {error}; mend the file"
        raise SettingsError(msg) from None


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
