"""Sending a call until it is answered: to another process when one dies, and again when an overloaded one says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc

from fetalmlops.platform.inference.calls import retry_after, trailer
from fetalmlops.platform.inference.channels import NO_MODEL_REASON, REASON_KEY, answering_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fetalmlops.platform.inference.pool import Connection, Pool

__all__ = ["FROM_CORE", "send"]

FROM_CORE: Final = "Internal error from Core"
"""What gRPC itself says, beside INTERNAL, where a call ended while a message was being written: by a connection that broke, or
by a refusal, whose reason is then lost."""

_MOST_DEATHS: Final = 3
_BROKEN: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 4.0


async def send(
    pool: Pool,
    ask: Callable[[Any, float, float], Awaitable[tuple[Any, Any]]],
    deadline: float,
    *,
    again: bool = True,
    patient: bool = True,
) -> Any:
    """Return the answer to a call.

    Parameters
    ----------
    pool
        Connections.
    ask
        Makes the call by a stub, within the seconds that are left, and waits so many seconds after its first message;
        returns the answer and the trailing metadata.
    deadline
        Time of the event loop at which the call ends.
    again
        Whether it may be sent again. One that three processes died with is not, for it may be the reason.
    patient
        Whether it is sent again to a service that is overloaded.

    Raises
    ------
    grpc.aio.AioRpcError
        The last status, when sending again is no help or there is no time for it.
    """
    loop = asyncio.get_running_loop()
    attempts = _Attempts(pool, patient=patient)
    while True:
        with pool.lease(attempts.unready) as connection:
            if connection is None:
                raise attempts.error
            try:
                answer, metadata = await ask(connection.stub, max(0.0, deadline - loop.time()), attempts.pause_s)
            except grpc.aio.AioRpcError as error:
                pause_s = attempts.failed(connection, error)
            else:
                pool.answered(connection, answering_place(metadata))
                return answer
        if pause_s is None or not again or loop.time() + pause_s >= deadline:
            raise attempts.error
        await asyncio.sleep(pause_s)


class _Attempts:
    """What became of the attempts at one call."""

    def __init__(self, pool: Pool, *, patient: bool) -> None:
        self._pool = pool
        self._patient = patient
        self._deaths = 0
        self.pause_s = 0.0
        """How long to wait after the first message, so that a refusal is read before the next one is written."""
        self.unready: set[Connection] = set()
        self.error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())

    def failed(self, connection: Connection, error: grpc.aio.AioRpcError) -> float | None:
        """Return the seconds after which to try again; None if that is no help."""
        self.error = error
        self._pool.answered(connection, answering_place(error.trailing_metadata()))
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return retry_after(error) if self._patient else None
        if trailer(error, REASON_KEY) == NO_MODEL_REASON:
            self.unready.add(connection)
            return 0.0
        if error.details() == FROM_CORE:
            self.pause_s = 2 * self.pause_s or _FIRST_PAUSE_S
            return 0.0 if self.pause_s <= _LONGEST_PAUSE_S else None
        if error.code() not in _BROKEN:
            return None
        self._pool.lost(connection)
        self._deaths += 1
        return 0.0 if self._deaths < _MOST_DEATHS else None
