"""A service class provider that keeps what it is sent, on a free port."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, evt
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import _STORAGE_CLASSES, register_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RETIRED = {
    "1.2.840.10008.5.1.4.1.1.6": "UltrasoundImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.3": "UltrasoundMultiFrameImageStorageRetired",
}
for retired, keyword in RETIRED.items():
    register_uid(retired, keyword, StorageServiceClass)


@dataclass
class Provider:
    """A running provider.

    ``received`` is, for each SOP Instance UID, transfer syntax and dataset bytes; ``associations`` counts those opened and
    ``contexts`` the presentation contexts each proposed; ``status`` is answered to every instance, and ``abort_at`` makes
    it abort on that one.
    """

    port: int = 0
    status: int = 0x0000
    abort_at: int = -1
    received: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    contexts: list[int] = field(default_factory=list)

    def store(self, event: evt.Event) -> int:
        if len(self.received) == self.abort_at:
            self.abort_at = -1
            event.assoc.abort()
            return 0xA700
        uid = event.request.AffectedSOPInstanceUID
        self.received[str(uid)] = (str(event.context.transfer_syntax), event.request.DataSet.getvalue())
        return self.status

    def accepted(self, event: evt.Event) -> None:
        self.contexts.append(len(event.assoc.requestor.requested_contexts))

    def connected(self, event: evt.Event) -> None:
        connection = event.assoc.dul.socket.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@pytest.fixture
def provide() -> Iterator[Callable[..., Provider]]:
    """Start providers; they stop with the test."""
    with contextlib.ExitStack() as stack:

        def start(
            *, ssl_context: object = None, accept: tuple[str, ...] = (), maximum: int = 10, **more: int
        ) -> Provider:
            provider = Provider(**more)
            entity = AE(ae_title="KEEPER")
            entity.maximum_associations = maximum
            entity.maximum_pdu_size = 131072
            for sop_class in accept or (*_STORAGE_CLASSES.values(), *RETIRED):
                entity.add_supported_context(sop_class, list(AllTransferSyntaxes))
            server = entity.start_server(
                ("127.0.0.1", 0),
                block=False,
                ssl_context=ssl_context,
                evt_handlers=[
                    (evt.EVT_C_STORE, provider.store),
                    (evt.EVT_ACCEPTED, provider.accepted),
                    (evt.EVT_CONN_OPEN, provider.connected),
                ],
            )
            stack.callback(server.shutdown)
            provider.port = server.server_address[1]
            return provider

        yield start
