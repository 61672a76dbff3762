"""The gRPC server: our service, the Open Inference Protocol, standard health and reflection, TLS where it is set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fetalmlops.domain.errors import SettingsError
from fetalmlops.inference.open_inference import OpenInferenceServicer
from fetalmlops.inference.servicer import InferenceServicer
from fetalmlops.platform.inference.channels import ALONE, MESSAGE_OPTIONS, server_credentials
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc
from fetalmlops.rpc.open_inference.v2 import open_inference_pb2, open_inference_pb2_grpc

if TYPE_CHECKING:
    from fetalmlops.inference.hosting import ModelHost
    from fetalmlops.platform.inference.channels import Place
    from fetalmlops.platform.settings import InferenceSettings

__all__ = ["InferenceServer"]

# What a call sends before it is read waits in its stream's window: 64 KiB, which gRPC's probing would let grow to megabytes.
_WINDOW_OPTIONS: Final = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * 1024))
# Calls beyond those that may be in work are refused one by one with a time to come back; a flood of them, at once.
_CALLS_PER_PLACE: Final = 4
_LEAST_QUEUE: Final = 64
_SERVICES: Final = (
    pb.DESCRIPTOR.services_by_name["InferenceService"].full_name,
    open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
)


class InferenceServer:
    """A gRPC server over a model host.

    Parameters
    ----------
    host
        Holds the model.
    settings
        Where to listen, and TLS.
    place
        Which of the processes that share the port this is: the kernel gives each connection to one of them.
    """

    def __init__(self, host: ModelHost, settings: InferenceSettings, place: Place = ALONE) -> None:
        self._settings = settings
        self._shared = place.count > 1
        self._listening = False
        options = [*MESSAGE_OPTIONS, *_WINDOW_OPTIONS, ("grpc.so_reuseport", int(self._shared))]
        self._server = grpc.aio.server(
            options=options, maximum_concurrent_rpcs=_CALLS_PER_PLACE * max(settings.queue_frames, _LEAST_QUEUE)
        )
        self._health = health.aio.HealthServicer()
        pb_grpc.add_InferenceServiceServicer_to_server(
            InferenceServicer(host, place, message_timeout_s=settings.message_timeout_s), self._server
        )
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(OpenInferenceServicer(host), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.port = 0

    async def start(self) -> None:
        """Begin to listen: unready, until `set_ready`.

        One of several processes listens only once it is ready: until then connections go to those that are.

        Raises
        ------
        SettingsError
            If the port is taken, or a certificate cannot be read.
        """
        await self.set_ready(ready=False)
        if not self._shared:
            await self._listen()

    async def _listen(self) -> None:
        self._listening = True
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            self.port = self._bind(address)
        except RuntimeError:
            msg = f"Expected inference.port {self._settings.port} to be free, got another listener; set another port"
            raise SettingsError(msg) from None
        await self._server.start()

    async def set_ready(self, *, ready: bool) -> None:
        """Tell health checks whether a model serves."""
        if ready and not self._listening:
            await self._listen()
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if ready else states.NOT_SERVING
        for service in ("", *_SERVICES):
            await self._health.set(service, state)

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, and give calls in work `grace_s` seconds to finish."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    def _bind(self, address: str) -> Any:
        if self._settings.tls.enabled:
            return self._server.add_secure_port(address, server_credentials(self._settings.tls))
        return self._server.add_insecure_port(address)
