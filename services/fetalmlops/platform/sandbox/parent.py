"""Work on untrusted data in child processes, under a memory and a time limit.

A decoder that crashes, hangs or swallows memory takes a child with it, never the stage. Children are started ahead, reused,
and replaced at once when they die; they inherit no credentials, write nothing, and die with their parent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import msgspec

from fetalmlops.domain.errors import DeadlyError, FetalMLOpsError, PermanentError, TransientError
from fetalmlops.platform.sandbox.wire import (
    EXIT_MEMORY,
    HEAD,
    Raised,
    Ready,
    Refused,
    Reply,
    Returned,
    Unexpected,
    decode_reply,
    encode,
    framed,
)
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ChildDiedError", "ChildTimeoutError", "Sandbox", "SandboxError"]

T = TypeVar("T")

_MIB = 1 << 20
_MAX_REPLY_BYTES = 256 * _MIB
_SOCKET_BYTES = 4 * _MIB
_REAP_S = 0.002
_BACKOFF_S = (0.0, 0.5, 2.0, 10.0)
_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "VIRTUAL_ENV")
_SET = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"),
    # Frames come and go: a heap that keeps the room of a few spares a call half a millisecond of page faults.
    "MALLOC_MMAP_THRESHOLD_": str(16 * _MIB),
    "MALLOC_TRIM_THRESHOLD_": str(32 * _MIB),
}
_log = get_logger(__name__)


class SandboxError(FetalMLOpsError):
    """A sandbox cannot start its children, or is closed."""


class ChildDiedError(DeadlyError):
    """The call killed its child: by a signal, or by needing more memory than it may have."""


class ChildTimeoutError(TransientError):
    """The call took longer than it may, and its child was killed."""


class Sandbox(Generic[T]):
    """A pool of children that all call one function.

    Start it and close it on the same event loop, whose thread must outlive the children; an ``async with`` block does both.

    Parameters
    ----------
    target
        The function, as ``module:function``. Its arguments and its result are what MessagePack carries: None, numbers, text,
        bytes, lists, dictionaries, and values of `msgspec.Struct`, which arrive as dictionaries in arguments.
    result
        Type of its result, against which every answer is checked.
    initializer
        A function that each child calls once at its start, as ``module:function``.
    workers
        Number of children, and so of calls at once; more calls wait.
    memory_bytes
        Address space that a call may add to what the libraries take.
    kept_bytes
        Address space that calls may leave taken; a child that has kept more is replaced. None is a quarter of `memory_bytes`.
    timeout
        Seconds that a call may take where it does not say otherwise.
    start_timeout
        Seconds that a child may take to start.
    niceness
        By how much the children stand back behind other processes, 0 to 19: a decoder that takes long must not slow down
        those that carry the other instances.

    Examples
    --------
    >>> async def main() -> float:
    ...     async with Sandbox("math:sqrt", float) as sandbox:
    ...         return await sandbox.call(2.25)
    >>> asyncio.run(main())
    1.5
    """

    def __init__(
        self,
        target: str,
        result: type[T],
        *,
        initializer: str | None = None,
        workers: int = 1,
        memory_bytes: int = 1024 * _MIB,
        kept_bytes: int | None = None,
        timeout: float = 60.0,
        start_timeout: float = 60.0,
        niceness: int = 10,
    ) -> None:
        kept = memory_bytes // 4 if kept_bytes is None else kept_bytes
        limits = (memory_bytes, kept, niceness)
        self._target = target
        self._arguments = [*map(str, limits), target, *([initializer] if initializer else [])]
        self._result = msgspec.msgpack.Decoder(result)
        self._workers = workers
        self._timeout = timeout
        self._start_timeout = start_timeout
        self._idle: asyncio.Queue[_Child | None] = asyncio.Queue()
        self._children: set[_Child] = set()
        self._restarts: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Start all children and wait until they are ready.

        Raises
        ------
        SandboxError
            If one cannot start, such as where the target cannot be imported.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._start_child())
        except* SandboxError as errors:
            await self.close()
            raise errors.exceptions[0] from None

    async def close(self) -> None:
        """End all children. Calls in work end with `ChildDiedError`, waiting ones with `SandboxError`."""
        self._closed = True
        self._idle.put_nowait(None)
        for task in self._restarts:
            task.cancel()
        await asyncio.gather(*self._restarts, return_exceptions=True)
        await asyncio.gather(*(self._end(child) for child in tuple(self._children)))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def process_ids(self) -> frozenset[int]:
        """Process ids of the children that live."""
        return frozenset(child.process.pid for child in self._children)

    async def call(self, *arguments: Any, timeout: float | None = None) -> T:
        """Call the target in a child.

        Parameters
        ----------
        arguments
            What the target is given.
        timeout
            Seconds that it may take, from when a child is free; its child is killed then. None takes the sandbox's own.

        Raises
        ------
        FetalMLOpsError
            What the target raises of these errors, as it raises them.
        PermanentError
            If the target raises anything else, or returns what it must not (reason ``unexpected``).
        ChildDiedError
            If the child dies of the call.
        ChildTimeoutError
            If the call takes too long.
        SandboxError
            If the sandbox is closed.
        """
        request = encode(arguments)
        limit = self._timeout if timeout is None else timeout
        child = await self._take()
        reply: Reply | None = None
        try:
            async with asyncio.timeout(limit):
                reply = await child.exchange(request)
        except TimeoutError:
            msg = f"Expected the call to end within {limit:g} s, and it did not; its child was killed"
            raise ChildTimeoutError(msg, dependency="decoder") from None
        except (OSError, EOFError, msgspec.DecodeError):
            await self._end(child)
            msg = f"Expected an answer of a child, got its death by {child.cause()}; the data may be made to crash decoders"
            raise ChildDiedError(msg) from None
        finally:
            if reply is None or getattr(reply, "retire", False):
                self._replace(child)
            else:
                self._idle.put_nowait(child)
        return self._unpack(reply)

    def _unpack(self, reply: Reply) -> T:
        if isinstance(reply, Raised):
            raise reply.to_error()
        if isinstance(reply, Returned):
            try:
                return self._result.decode(reply.value)
            except msgspec.DecodeError:
                reply = Unexpected("ValidationError", "its result")
        what = f"{reply.kind} at {reply.place}" if isinstance(reply, Unexpected) else type(reply).__name__
        msg = f"Expected the target to return or to refuse its input, got {what}; report this as a defect"
        raise PermanentError(msg, reason="unexpected")

    async def _take(self) -> _Child:
        while not self._closed:
            child = await self._idle.get()
            if child is None:
                break
            if child.process.poll() is None:
                return child
            self._replace(child)  # it died while idle: no call is to blame
        self._idle.put_nowait(None)
        msg = "Expected an open sandbox, got a closed one; start it before calls and close it after them"
        raise SandboxError(msg)

    async def _start_child(self) -> None:
        child = _spawn(self._arguments)
        self._children.add(child)
        try:
            async with asyncio.timeout(self._start_timeout):
                reply = await child.receive()
        except (OSError, EOFError, msgspec.DecodeError) as error:
            reply = Refused(f"{type(error).__name__}, {child.cause()}")
        if not isinstance(reply, Ready):
            await self._end(child)
            why = reply.message if isinstance(reply, Refused) else type(reply).__name__
            msg = f"Expected a child to start with {self._target}, got {why}"
            raise SandboxError(msg)
        self._idle.put_nowait(child)

    def _replace(self, child: _Child) -> None:
        if not self._closed:
            task = asyncio.get_running_loop().create_task(self._restart(child))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)

    async def _restart(self, child: _Child) -> None:
        await self._end(child)
        for delay in chain(_BACKOFF_S, repeat(_BACKOFF_S[-1])):
            await asyncio.sleep(delay)
            try:
                await self._start_child()
            except SandboxError as error:
                _log.error("child_not_started", error=str(error))
            else:
                return

    async def _end(self, child: _Child) -> None:
        await child.end()
        self._children.discard(child)


class _Child:
    """One child process and the connection to it."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.process = process
        self._channel = channel
        self._loop = asyncio.get_running_loop()

    async def exchange(self, request: bytes) -> Reply:
        """Send a call and wait for its reply."""
        for part in framed(request):
            await self._loop.sock_sendall(self._channel, part)
        return await self.receive()

    async def receive(self) -> Reply:
        """Wait for what the child says."""
        (size,) = HEAD.unpack(await self._receive_exactly(HEAD.size))
        if size > _MAX_REPLY_BYTES:
            raise EOFError
        return decode_reply(await self._receive_exactly(size))

    async def _receive_exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            received = await self._loop.sock_recv_into(self._channel, view[got:])
            if not received:
                raise EOFError
            got += received
        return data

    async def end(self) -> None:
        """Kill the process, and wait until nothing is left of it."""
        # Shut down before it is closed: a read that waits on the connection must end first.
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self.process.kill()
        ended = False
        while not ended:
            await asyncio.sleep(_REAP_S)
            ended = self.process.poll() is not None
        self._channel.close()

    def cause(self) -> str:
        """Say how the process ended."""
        code = self.process.returncode
        if code is None:
            return "no cause yet"
        if code == EXIT_MEMORY:
            return "lack of memory"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _spawn(arguments: list[str]) -> _Child:
    ours, theirs = socket.socketpair()
    try:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        ours.setblocking(False)
        module = [sys.executable, "-P", "-W", "ignore", "-m", "fetalmlops.platform.sandbox.child"]
        process = subprocess.Popen(
            [*module, str(theirs.fileno()), str(os.getpid()), *arguments],
            pass_fds=[theirs.fileno()],
            # Decoders write to stderr what they think of the data.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ} | _SET,
        )
    except OSError as error:
        ours.close()
        msg = f"Expected to start a child process, got {type(error).__name__}; check the limits of this machine"
        raise SandboxError(msg) from error
    finally:
        theirs.close()
    return _Child(process, ours)
