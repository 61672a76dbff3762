"""The embedded system: a real broker, a real Valkey and every service on one machine, without containers and root."""

from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.system import EmbeddedSystem, start_servers, stop_servers

__all__ = ["EmbeddedError", "EmbeddedSystem", "start_servers", "stop_servers"]
