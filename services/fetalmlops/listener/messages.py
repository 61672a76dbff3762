"""pynetdicom's messages in pieces: a dataset is handed on as it arrives, and never held.

By itself the library collects it in memory, takes a command set of any length, and leaves what is no proper request unanswered.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage

from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import P_DATA

__all__ = ["GLANCE_S", "INVALID_PDU", "Begin", "Incoming", "Messages", "Sink"]

GLANCE_S = 0.01
"""Seconds for which we wait where the library would look again each millisecond."""

INVALID_PDU = "Evt19"
"""The event of the library's state machine that aborts (PS3.8 table 9-10)."""

_COMMAND_BYTES = 64 * 1024
_SLOWEST_BYTES_PER_S = 64 * 1024
_log = get_logger(__name__)


class Sink(Protocol):
    """Where the dataset of one message goes."""

    def add(self, piece: bytes) -> None:
        """Take the next piece."""

    def close(self) -> None:
        """Let go of what was taken; more than once does no harm."""


Begin = Callable[["Messages", DIMSEMessage], Sink]
"""Makes the sink of a message whose command set is known, on the thread that reads the connection."""


class Incoming(BytesIO):
    """Stands where the library collects a message's dataset: hands it on and keeps nothing.

    Parameters
    ----------
    begin
        Makes the sink when the first piece comes.
    """

    def __init__(self, begin: Callable[[], Sink]) -> None:
        super().__init__()
        self._begin = begin
        self._sink: Sink | None = None
        self.received = 0

    @property
    def sink(self) -> Sink:
        """The sink; made now if there was no piece yet."""
        if self._sink is None:
            self._sink = self._begin()
        return self._sink

    def write(self, data: Any) -> int:
        """Hand a piece on."""
        self.received += len(data)
        self.sink.add(data)
        return len(data)

    def drop(self) -> None:
        """Close the sink, if there is one."""
        if self._sink is not None:
            self._sink.close()


class Messages(DIMSEServiceProvider):  # type: ignore[misc]
    """The messages of one association: their datasets go to sinks as they arrive.

    Parameters
    ----------
    assoc
        The association.
    begin
        Makes the sink of a message.
    """

    def __init__(self, assoc: Association, begin: Begin) -> None:
        super().__init__(assoc)
        self.caller: Any = None
        self._new_sink = begin
        self._incoming: Incoming | None = None
        self._dropped_at_end: list[Incoming] = []
        self._begun = self._heard = time.monotonic()
        self._serving = False

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the next part of a message; what cannot be taken aborts the association."""
        self._heard = time.monotonic()
        if self.message is None:
            self._expect_message()
        try:
            super().receive_primitive(primitive)
            if self.message is not None:
                self._check_unfinished(self.message)
        except Exception as error:  # noqa: BLE001 - the library raises whatever the bytes lead it to
            _log.warning("message_broken", error=type(error).__name__)
            self.dul.event_queue.put(INVALID_PDU)

    def get_msg(self, block: bool = False) -> tuple[int | None, Any]:
        """Return the next request, for which we wait a little: the library would look again each millisecond.

        One without what it must have, which the library leaves unanswered, aborts.
        """
        try:
            context_id, message = self.msg_queue.get(timeout=self.dimse_timeout if block else GLANCE_S)
        except queue.Empty:
            return None, None
        if message is None:
            return None, None
        self._serving = True
        if not message.is_valid_request:
            self.assoc.abort()
            return None, None
        return context_id, message

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a response. The silence of a peer counts from here: it had to wait for us."""
        super().send_msg(primitive, context_id)
        self._serving = False
        self._heard = time.monotonic()
        self.dul.restart_idle_timer()

    def idle_s(self) -> float:
        """Return for how many seconds nothing has been received, served or sent."""
        return 0.0 if self.message is not None or self.is_serving() else time.monotonic() - self._heard

    def is_serving(self) -> bool:
        """Return whether a request waits for its response."""
        return self._serving or not self.msg_queue.empty()

    def close(self) -> None:
        """Drop what is left of messages that nobody served."""
        for incoming in self._dropped_at_end:
            incoming.drop()

    def _expect_message(self) -> None:
        message = self.message = DIMSEMessage()
        incoming = Incoming(lambda: self._new_sink(self, message))
        message.data_set = self._incoming = incoming
        # No more than two wait to be served: see `BoundedSocket.ready`.
        self._dropped_at_end = [*self._dropped_at_end[-2:], incoming]
        self._begun = self._heard

    def _check_unfinished(self, message: DIMSEMessage) -> None:
        received = self._incoming.received if self._incoming else 0
        if message.encoded_command_set.tell() > _COMMAND_BYTES:
            raise ValueError("command set too long")
        if time.monotonic() - self._begun > self.dimse_timeout + received / _SLOWEST_BYTES_PER_S:
            raise TimeoutError("message too slow")
