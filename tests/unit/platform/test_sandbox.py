from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fetalmlops.domain.contracts.refusals import RefusalDetails
from fetalmlops.domain.errors import (
    ContractError,
    DeadlyError,
    DigestMismatchError,
    FetalMLOpsError,
    ObjectMissingError,
    PermanentError,
    TransientError,
)
from fetalmlops.platform.sandbox.parent import ChildDiedError, ChildTimeoutError, Sandbox, SandboxError

TARGETS = """
import ctypes, os, time
from fetalmlops.domain import errors
from fetalmlops.domain.contracts.refusals import RefusalDetails

started = []
def start(): started.append(1)
def times_started(): return len(started)
def echo(value): return value
def size(value): return len(value)
def environment(): return dict(os.environ)
def limits():
    import resource
    return list(resource.getrlimit(resource.RLIMIT_CORE))
def process_id(): return os.getpid()
def meet(mine, other):
    open(mine, "w").close()
    end = time.monotonic() + 15
    while not os.path.exists(other) and time.monotonic() < end: time.sleep(0.005)
    return os.path.exists(other)
def hang(seconds): time.sleep(seconds); return None
def allocate(count): block = bytearray(count); block[::4096] = b"x" * len(block[::4096]); return len(block)
def crash(): ctypes.string_at(0)
def leave(code): os._exit(code)
def chatter(): print("DOE^JANE"); os.write(2, b"DOE^JANE"); return True
def surprise(): raise ValueError("DOE^JANE")
kept = []
def keep(count): kept.append(bytearray(count)); return os.getpid()
def refuse(name):
    raise {
        "permanent": errors.PermanentError("no", reason="undecodable"),
        "detailed": errors.PermanentError("no", reason="text-found", details=RefusalDetails(code="x", rows=2)),
        "contract": errors.ContractError("no", reason="schema"),
        "digest": errors.DigestMismatchError("no"),
        "transient": errors.TransientError("no", dependency="vault", everyone=True),
        "missing": errors.ObjectMissingError("no"),
        "derived": type("Own", (errors.TransientError,), {})("no", dependency="vault"),
        "deadly": errors.DeadlyError("no"),
    }[name]
"""
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sandbox_targets.py").write_text(TARGETS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FETALMLOPS_SECRET", "CANARY-SECRET")


def sandbox(name: str, result: Any = Any, **options: Any) -> Sandbox[Any]:
    return Sandbox(f"sandbox_targets:{name}", result, **options)


def call(name: str, *arguments: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with sandbox(name, **options) as children:
            return await children.call(*arguments, timeout=20)

    return asyncio.run(main())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition: Any, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("value", [None, 3, 2.5, "text", b"\0\xff", [1, "a"], {"a": [1]}])
def test_values_cross_unchanged(value: Any) -> None:
    assert call("echo", value) == value


def test_a_result_is_checked_against_its_type() -> None:
    class Pair(msgspec.Struct, frozen=True):
        first: int

    assert call("echo", {"first": 1}, result=Pair) == Pair(1)
    with pytest.raises(PermanentError) as caught:
        call("echo", {"first": "DOE^JANE"}, result=Pair)
    assert caught.value.reason == "unexpected"
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "fields"),
    [
        ("permanent", PermanentError, {"reason": "undecodable", "details": None}),
        ("detailed", PermanentError, {"reason": "text-found", "details": RefusalDetails(code="x", rows=2)}),
        ("contract", ContractError, {"reason": "schema"}),
        ("digest", DigestMismatchError, {"reason": "digest-mismatch"}),
        ("transient", TransientError, {"dependency": "vault", "everyone": True}),
        ("derived", TransientError, {"dependency": "vault", "everyone": False}),
        ("missing", ObjectMissingError, {}),
        ("deadly", DeadlyError, {}),
    ],
)
def test_errors_of_the_domain_cross_intact(name: str, kind: type[FetalMLOpsError], fields: dict[str, Any]) -> None:
    with pytest.raises(kind) as caught:
        call("refuse", name)
    assert type(caught.value) is kind
    assert str(caught.value) == "no"
    assert {field: getattr(caught.value, field) for field in fields} == fields


def test_other_errors_tell_their_place_but_not_their_text() -> None:
    with pytest.raises(PermanentError, match=r"ValueError at sandbox_targets\.py:\d+") as caught:
        call("surprise")
    assert caught.value.reason == "unexpected"
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "cause"),
    [
        ("crash", (), "SIGSEGV"),
        ("leave", (3,), "exit code 3"),
        ("allocate", (4096 * MIB,), "lack of memory"),
    ],
)
def test_a_call_that_kills_its_child_is_told_and_the_next_one_succeeds(
    name: str, arguments: tuple[Any, ...], cause: str
) -> None:
    async def main() -> None:
        async with sandbox(name, memory_bytes=256 * MIB) as children:
            before = children.process_ids
            with pytest.raises(ChildDiedError, match=cause) as caught:
                await children.call(*arguments, timeout=20)
            assert isinstance(caught.value, DeadlyError)
            with pytest.raises(ChildDiedError):
                await children.call(*arguments, timeout=20)
            assert not before & children.process_ids

    asyncio.run(main())


def test_memory_below_the_limit_is_given() -> None:
    assert call("allocate", 128 * MIB, memory_bytes=256 * MIB) == 128 * MIB


def test_a_child_that_keeps_memory_is_replaced_between_calls() -> None:
    async def main() -> list[int]:
        async with sandbox("keep", memory_bytes=256 * MIB) as children:
            return [await children.call(40 * MIB, timeout=20) for _ in range(8)]

    ids = asyncio.run(main())
    assert len(set(ids)) == 4, "each child has to serve the calls that fit into a quarter of its limit, and no more"


def test_a_timeout_kills_the_child_and_the_next_call_succeeds() -> None:
    async def main() -> None:
        async with sandbox("hang") as children:
            (first,) = children.process_ids
            started = time.monotonic()
            with pytest.raises(ChildTimeoutError) as caught:
                await children.call(60, timeout=0.2)
            assert time.monotonic() - started < 5
            assert isinstance(caught.value, TransientError)
            assert (caught.value.dependency, caught.value.everyone) == ("decoder", False)
            assert await children.call(0, timeout=20) is None
            assert not is_alive(first)

    asyncio.run(main())


def test_a_cancelled_call_leaves_nothing_behind_for_the_next() -> None:
    async def main() -> None:
        async with sandbox("hang") as children:
            task = asyncio.create_task(children.call(60, timeout=60))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await children.call(0, timeout=20) is None

    asyncio.run(main())


def test_a_child_that_dies_while_idle_is_no_call_s_fault() -> None:
    async def main() -> None:
        async with sandbox("process_id") as children:
            first = await children.call(timeout=20)
            os.kill(first, signal.SIGKILL)
            assert await asyncio.to_thread(wait_until, lambda: not is_alive(first))
            assert await children.call(timeout=20) != first

    asyncio.run(main())


def test_calls_run_in_as_many_children_as_there_are_and_the_loop_goes_on(tmp_path: Path) -> None:
    """Each call ends only once the other one runs: a loop held up by the first would never start the second."""
    first, second = str(tmp_path / "first"), str(tmp_path / "second")

    async def main() -> None:
        async with sandbox("meet", workers=2) as children:
            calls = asyncio.gather(children.call(first, second, timeout=20), children.call(second, first, timeout=20))
            assert await calls == [True, True]

    asyncio.run(main())


def test_more_calls_than_children_wait_for_their_turn() -> None:
    async def main() -> None:
        async with sandbox("echo", workers=2) as children:
            assert await asyncio.gather(*(children.call(value, timeout=20) for value in range(50))) == list(range(50))

    asyncio.run(main())


def test_children_start_once_each_and_run_their_initializer() -> None:
    async def main() -> None:
        async with sandbox("times_started", initializer="sandbox_targets:start") as children:
            assert [await children.call(timeout=20) for _ in range(3)] == [1, 1, 1]

    asyncio.run(main())


@pytest.mark.parametrize("target", ["no_such_module:function", "math:no_such_function"])
def test_a_target_that_cannot_be_imported_is_told_at_the_start(target: str) -> None:
    async def main() -> None:
        await Sandbox(target, Any).start()  # type: ignore[arg-type]

    with pytest.raises(SandboxError, match=r"no_such"):
        asyncio.run(main())


def test_children_have_no_credentials_no_core_dumps_and_no_voice(capfd: pytest.CaptureFixture[str]) -> None:
    environment = call("environment")
    assert "FETALMLOPS_SECRET" not in environment
    assert environment["OMP_NUM_THREADS"] == "1"
    assert call("limits") == [0, 0]
    assert call("chatter") is True
    assert "DOE" not in "".join(capfd.readouterr())


def test_nothing_is_left_after_close() -> None:
    async def main() -> list[int]:
        children = sandbox("crash", workers=2)
        await children.start()
        ids = list(children.process_ids)
        with pytest.raises(ChildDiedError):
            await children.call(timeout=20)
        await children.close()  # while a child is being replaced
        assert not children.process_ids
        with pytest.raises(SandboxError):
            await children.call(timeout=20)
        return ids

    asyncio.run(main())
    files, threads = open_files(), threading.active_count()
    ids = asyncio.run(main())
    assert open_files() == files
    assert threading.active_count() == threads
    assert not any(Path(f"/proc/{process_id}").exists() for process_id in ids), "not even as a zombie"


def test_close_ends_calls_that_work_and_calls_that_wait() -> None:
    async def main() -> list[BaseException]:
        children = sandbox("hang")
        await children.start()
        calls = [asyncio.create_task(children.call(60, timeout=60)) for _ in range(3)]
        await asyncio.sleep(0.1)
        await children.close()
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)

    kinds = [type(error) for error in asyncio.run(main())]
    assert kinds == [ChildDiedError, SandboxError, SandboxError]


PARENT = """
import asyncio, sys
from typing import Any
from fetalmlops.platform.sandbox.parent import Sandbox

async def main():
    async with Sandbox("sandbox_targets:hang", Any, workers=2) as children:
        busy = asyncio.create_task(children.call(600, timeout=600))
        await asyncio.sleep(0.1)
        print(*children.process_ids, flush=True)
        await busy

asyncio.run(main())
"""


def test_children_busy_and_idle_die_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(PARENT)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        ids = [int(value) for value in parent.stdout.readline().split()]
        assert len(ids) == 2
        assert all(is_alive(process_id) for process_id in ids)
        parent.kill()
    assert wait_until(lambda: not any(is_alive(process_id) for process_id in ids))


def test_a_megabyte_and_a_half_costs_milliseconds_at_most() -> None:
    payload = bytes(1_500_000)

    async def main() -> float:
        async with sandbox("size") as children:
            took = []
            for _ in range(50):
                started = time.perf_counter()
                assert await children.call(payload, timeout=20) == len(payload)
                took.append(time.perf_counter() - started)
        return min(took)

    assert asyncio.run(main()) < 0.01
