"""Settings: one class a concern, each field with its unit, range and default.

Later sources win: defaults, then ``run/embedded.toml`` of the state folder (written by ``fetalmlops up``: the ports and
credentials of the embedded servers), then ``fetalmlops.toml`` of the state folder, then environment variables
(``FETALMLOPS_KAFKA__BOOTSTRAP_SERVERS`` sets ``kafka.bootstrap_servers``). What must not stand in an environment comes
from files: one in the folder ``FETALMLOPS_SECRETS_DIR``, named as the variable, wins over the files above.
"""

from fetalmlops.platform.settings.connections import KafkaSettings, ObjectSettings, TlsSettings, ValkeySettings
from fetalmlops.platform.settings.energy import EnergySettings
from fetalmlops.platform.settings.loading import home_folder, load_settings
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
from fetalmlops.platform.settings.whole import Settings

__all__ = [
    "AnonymizerSettings",
    "ClassifierSettings",
    "EnergySettings",
    "GatewaySettings",
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
