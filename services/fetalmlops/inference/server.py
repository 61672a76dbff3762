"""The gRPC server: the service, standard health and reflection, TLS where it is set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fetalmlops.domain.errors import SettingsError
from fetalmlops.inference.servicer import InferenceServicer
from fetalmlops.platform.inference.channels import MESSAGE_OPTIONS, server_credentials
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from fetalmlops.inference.hosting import ModelHost
    from fetalmlops.platform.settings import InferenceSettings

__all__ = ["InferenceServer"]

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["InferenceService"].full_name


class InferenceServer:
    """A gRPC server over a model host.

    Parameters
    ----------
    host
        Holds the model.
    settings
        Where to listen, and TLS.
    shared_port
        Whether other processes may listen on the same port, so that the kernel shares calls out among them.
    """

    def __init__(self, host: ModelHost, settings: InferenceSettings, *, shared_port: bool = False) -> None:
        self._settings = settings
        options = [*MESSAGE_OPTIONS, ("grpc.so_reuseport", int(shared_port))]
        self._server = grpc.aio.server(options=options)
        self._health = health.aio.HealthServicer()
        pb_grpc.add_InferenceServiceServicer_to_server(InferenceServicer(host), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.port = 0

    async def start(self) -> None:
        """Begin to listen: unready, until `set_ready`.

        Raises
        ------
        SettingsError
            If the port is taken, or a certificate cannot be read.
        """
        await self.set_ready(ready=False)
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            self.port = self._bind(address)
        except RuntimeError:
            msg = f"Expected inference.port {self._settings.port} to be free, got another listener; set another port"
            raise SettingsError(msg) from None
        await self._server.start()

    async def set_ready(self, *, ready: bool) -> None:
        """Tell health checks whether a model serves."""
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if ready else states.NOT_SERVING
        for service in ("", _SERVICE):
            await self._health.set(service, state)

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, and give calls in work `grace_s` seconds to finish."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    def _bind(self, address: str) -> Any:
        if self._settings.tls.enabled:
            return self._server.add_secure_port(address, server_credentials(self._settings.tls))
        return self._server.add_insecure_port(address)
