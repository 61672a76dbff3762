"""All settings in one, with the places that follow from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from fetalmlops.platform.settings.connections import KafkaSettings, ObjectSettings, ValkeySettings
from fetalmlops.platform.settings.energy import EnergySettings
from fetalmlops.platform.settings.processes import HealthSettings, StreamSettings, TelemetrySettings
from fetalmlops.platform.settings.stages import (
    AnonymizerSettings,
    ClassifierSettings,
    GatewaySettings,
    InferenceSettings,
    KeeperSettings,
    ListenerSettings,
    NormalizerSettings,
)

__all__ = ["SECRETS_DIR", "Settings"]

SECRETS_DIR = "FETALMLOPS_SECRETS_DIR"
"""Variable that names the folder of mounted secrets."""


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
    """Folder of device profiles, one TOML file each, read again when they change; default: ``devices`` of the state folder."""
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
    energy: EnergySettings = EnergySettings()
    """How energy is counted, and what it comes to."""
    listener: ListenerSettings = ListenerSettings()
    """The DICOM listener."""
    normalizer: NormalizerSettings = NormalizerSettings()
    """Decoding and normalisation."""
    anonymizer: AnonymizerSettings = AnonymizerSettings()
    """De-identification of pixels."""
    inference: InferenceSettings = InferenceSettings()
    """The inference service."""
    keeper: KeeperSettings = KeeperSettings()
    """Replay and retention."""
    classifier: ClassifierSettings = ClassifierSettings()
    """The classifier."""
    gateway: GatewaySettings = GatewaySettings()
    """The REST gateway."""

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
        folder = os.environ.get(SECRETS_DIR) or None
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
    def gateway_keys_file(self) -> Path:
        """Digests of the keys of the gateway's callers."""
        return self.gateway.keys_path or self.secrets_folder / "gateway-keys.toml"

    @property
    def phi_url(self) -> str:
        """Place of the phi zone's objects."""
        return self.objects.phi_url or (self.home / "objects" / "phi").as_uri()

    @property
    def clean_url(self) -> str:
        """Place of the clean zone's objects."""
        return self.objects.clean_url or (self.home / "objects" / "clean").as_uri()
