"""Several processes behind one port: a client reaches each, and the loss of one is nobody's failure."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.domain.models.bundle import Bundle
from fetalmlops.inference.parent import reserved_port
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.settings import Settings
from support.serving import Serving, promote_files, serving

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def service(embedded: Settings, bundle: Bundle) -> Iterator[Serving]:
    asyncio.run(promote_files(embedded, bundle.files))
    with serving(embedded, FETALMLOPS_INFERENCE__PROCESSES="2") as running:
        running.wait_for_all(2)
        yield running


async def reach(client: InferenceClient, frames: np.ndarray, count: int) -> None:
    async with asyncio.timeout(60):
        while len(client.processes) < count:
            await client.classify([frames[:1]], [1])
            await asyncio.sleep(0.05)


async def test_a_client_reaches_every_process_and_uses_each(service: Serving, frames: np.ndarray) -> None:
    async with InferenceClient(service.target, timeout_s=60) as client:
        await reach(client, frames, 2)
        await asyncio.gather(*(client.classify([frames[:1]], [1]) for _ in range(40)))
    assert client.processes == {1, 2}
    metrics = await asyncio.to_thread(service.get, "/metrics")
    for number in ("1", "2"):
        assert f'fetalmlops_inference_calls_total{{process="{number}",status="OK"}}' in metrics
    assert metrics.count("# TYPE fetalmlops_inference_calls_total counter") == 1


async def test_the_report_speaks_for_all(service: Serving, bundle: Bundle) -> None:
    report = await asyncio.to_thread(service.report)
    assert report["ready"]
    assert report["bundle_digest"] == bundle.digest
    assert {each["bundle_digest"] for each in report["processes"].values()} == {bundle.digest}
    assert len({report["pid"], *(each["pid"] for each in report["processes"].values())}) == 3


async def test_a_killed_process_fails_no_call_and_comes_back(service: Serving, frames: np.ndarray) -> None:
    done = asyncio.Event()

    async def ask(client: InferenceClient) -> int:
        answered = 0
        while not done.is_set():
            await client.classify([frames[:2]], [1, 2])
            answered += 1
        return answered

    async with InferenceClient(service.target, timeout_s=60) as client:
        await reach(client, frames, 2)
        asking = [asyncio.create_task(ask(client)) for _ in range(6)]
        for number in ("2", "1"):
            pid = (await asyncio.to_thread(lambda: service.pids))[number]
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(
                service.wait_until, lambda report, number=number, pid=pid: report["processes"][number].get("pid") != pid
            )
            assert (await asyncio.to_thread(service.report))["ready"]
            await asyncio.to_thread(service.wait_for_all, 2)
            async with asyncio.timeout(30):
                while len(client.processes) < 2:  # noqa: ASYNC110 - a process found has no event
                    await asyncio.sleep(0.05)
        done.set()
        assert all(await asyncio.gather(*asking))


async def test_a_process_that_hangs_is_started_again(embedded: Settings, frames: np.ndarray) -> None:
    with serving(embedded, FETALMLOPS_INFERENCE__PROCESSES="2", FETALMLOPS_INFERENCE__HANG_S="8") as running:
        await asyncio.to_thread(running.wait_for_all, 2)
        pid = (await asyncio.to_thread(lambda: running.pids))["1"]
        os.kill(pid, signal.SIGSTOP)
        await asyncio.to_thread(
            running.wait_until, lambda report: report["processes"]["1"].get("pid") not in (pid, None)
        )
        assert not psutil.pid_exists(pid)
        await asyncio.to_thread(running.wait_for_all, 2)
        async with InferenceClient(running.target, timeout_s=60) as client:
            await reach(client, frames, 2)


async def test_processes_end_with_their_parent(embedded: Settings, bundle: Bundle, frames: np.ndarray) -> None:
    port = await asyncio.to_thread(_killed_parents_port, embedded)
    # The next one gets the port as soon as they are gone, and ends in order when asked to.
    with serving(embedded, FETALMLOPS_INFERENCE__PROCESSES="2", FETALMLOPS_INFERENCE__PORT=port) as running:
        await asyncio.to_thread(running.wait_for_all, 2)
        async with InferenceClient(running.target, timeout_s=60) as client:
            assert (await client.classify([frames[:1]], [1])).model.bundle_digest == bundle.digest
            children = list((await asyncio.to_thread(lambda: running.pids)).values())
            assert await asyncio.to_thread(running.end) == 0
            assert not any(psutil.pid_exists(pid) for pid in children)
            with pytest.raises(TransientError) as caught:
                await client.classify([frames[:1]], [1])
            assert caught.value.everyone


def _killed_parents_port(embedded: Settings) -> str:
    with serving(embedded, FETALMLOPS_INFERENCE__PROCESSES="2") as running:
        running.wait_for_all(2)
        children = [psutil.Process(pid) for pid in running.pids.values()]
        port = running.target.rpartition(":")[2]
        running.popen.kill()
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert (len(gone), alive) == (2, [])
    return port


def test_a_port_that_another_program_listens_on_is_refused_even_if_that_one_shares_it() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=r"inference\.port"), reserved_port("127.0.0.1", port, patience_s=0.2):
            pass
    with reserved_port("127.0.0.1", port) as reserved:
        assert reserved == port
