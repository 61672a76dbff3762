"""Connections to a service whose processes share one port: one to each process, and each call where least is in work.

The kernel gives a new connection to any of the processes, and a stream never moves to another one. So connections are opened
until every process has answered on one of them: it says its number, and how many there are, in its trailing metadata.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import grpc

from fetalmlops.platform.inference.channels import answering_place
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from fetalmlops.platform.inference.channels import Place

__all__ = ["Connection", "Pool"]

_LOOK_S: Final = 1.0
_TRIES_PER_PROCESS: Final = 4
_ANSWER_S: Final = 2.0
_LIVE: Final = {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.CONNECTING}


class Connection:
    """One connection to one process.

    Attributes
    ----------
    stub
        Calls over it.
    in_flight
        Calls in work on it.
    place
        Which process is at its other end; None before its first answer.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stub = pb_grpc.InferenceServiceStub(channel)
        self.in_flight = 0
        self.place: Place | None = None


class Pool:
    """Connections to one service. Make and use it within one event loop, and `close` it.

    Parameters
    ----------
    open_channel
        Opens a channel with a connection of its own.
    """

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel]) -> None:
        self._open_channel = open_channel
        self._connections = [Connection(open_channel())]
        self._retired: set[Connection] = set()
        self._count = 1
        self._closing: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._incomplete = asyncio.Event()

    @property
    def reached(self) -> frozenset[int]:
        """Numbers of the processes that a connection is open to."""
        return frozenset(each.place.number for each in self._connections if each.place)

    @contextlib.contextmanager
    def lease(self, avoid: Collection[Connection] = ()) -> Iterator[Connection | None]:
        """Take the connection whose process has least in work for one call.

        Parameters
        ----------
        avoid
            Connections that would not do; None is given where there is no other.
        """
        usable = [each for each in self._connections if each not in avoid]
        if not usable:
            yield None
            return
        chosen = min(usable, key=lambda each: each.in_flight)
        chosen.in_flight += 1
        try:
            yield chosen
        finally:
            chosen.in_flight -= 1
            self._free_retired()

    def answered(self, connection: Connection, place: Place | None) -> None:
        """Take in which process answered on a connection: another one than before, where it was opened anew."""
        if place is None or connection.place == place or connection not in self._connections:
            return
        connection.place, self._count = place, place.count
        if any(each.place == place for each in self._connections if each is not connection):
            self._retire(connection)
        self._look_if_incomplete()

    def lost(self, connection: Connection) -> None:
        """Take in that a connection broke."""
        if connection not in self._connections:
            return
        connection.place = None
        # The last one stays: its channel connects again by itself.
        if len(self._connections) > 1:
            self._retire(connection)
        self._look_if_incomplete()

    async def close(self) -> None:
        """Close all connections; calls in work are cancelled."""
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await asyncio.gather(*self._closing, *(each.channel.close() for each in [*self._connections, *self._retired]))

    def _retire(self, connection: Connection) -> None:
        self._connections.remove(connection)
        self._retired.add(connection)
        self._free_retired()

    def _free_retired(self) -> None:
        for connection in [each for each in self._retired if not each.in_flight]:
            self._retired.remove(connection)
            task = asyncio.create_task(connection.channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _look_if_incomplete(self) -> None:
        if self._count > 1 and len(self.reached) < self._count:
            self._incomplete.set()
        if self._count > 1 and self._looking is None:
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Open connections until every process is reached, and again when one is lost."""
        while True:
            tries = _TRIES_PER_PROCESS * self._count
            while len(self.reached) < self._count and tries > 0:
                tries -= 1
                await self._open_another()
            if len(self.reached) >= self._count:
                self._incomplete.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._incomplete.wait(), _LOOK_S)
            else:
                await asyncio.sleep(_LOOK_S)
            self._drop_broken()

    async def _open_another(self) -> None:
        """Open a connection and keep it if a process is at its end that none of the others reaches."""
        connection = Connection(self._open_channel())
        kept = False
        try:
            connection.place = await _ask(connection)
            if connection.place:
                self._count = connection.place.count
                if kept := connection.place.number not in self.reached:
                    self._connections.append(connection)
        finally:
            if not kept:
                await connection.channel.close()

    def _drop_broken(self) -> None:
        """Notice a process that died while it had nothing of ours in work."""
        for connection in [each for each in self._connections if each.place]:
            if connection.channel.get_state() not in _LIVE:
                self.lost(connection)


async def _ask(connection: Connection) -> Place | None:
    call = connection.stub.GetModelMetadata(pb.GetModelMetadataRequest(), timeout=_ANSWER_S)
    try:
        return answering_place(await call.trailing_metadata())
    except grpc.aio.AioRpcError:
        return None
    finally:
        call.cancel()
