"""The gateway and the inference service as real processes."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx
import psutil

from fetalmlops.gateway.accounts import add_key

ACCOUNT = "caller"


class InferenceProcess:
    """The inference service with the packaged bundle, on a port that it keeps when it is started again."""

    def __init__(self, *changes: str) -> None:
        self.port = 0
        self._changes = changes
        self.process = self._start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        if self.process.stdout:
            self.process.stdout.close()

    def restart(self) -> None:
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        program = Path(__file__).parent / "inference_process.py"
        command = [sys.executable, str(program), str(self.port), *self._changes]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout
        # Its own log goes to standard output too.
        for line in process.stdout:
            if line.strip().isdecimal():
                self.port = int(line)
                return process
        raise AssertionError("the inference service did not start")


class GatewayProcess:
    """A gateway with one caller's key; ``folder`` is its state folder and holds its log."""

    def __init__(
        self,
        folder: Path,
        inference: InferenceProcess,
        *,
        keyed: bool = True,
        proof: ssl.SSLContext | None = None,
        **settings: object,
    ) -> None:
        self.log = folder / "gateway.log"
        self.key = add_key(folder / "secrets" / "gateway-keys.toml", ACCOUNT) if keyed else ""
        values = {"GATEWAY__PORT": 0, "INFERENCE__PORT": inference.port, **settings}
        changes = {f"FETALMLOPS_{name}": str(value) for name, value in values.items()}
        environment = {**os.environ, "FETALMLOPS_HOME": str(folder), **changes}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fetalmlops.gateway"], env=environment, stderr=log, stdout=log
            )
        self.url = ""
        self._proof = proof

    def __enter__(self) -> Self:
        end = time.monotonic() + 60
        while not self.url:
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise AssertionError(self.log.read_text())
            self._find()
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0, self.log.read_text()

    def client(self, *, keyed: bool = True) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"} if keyed else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def wait_until(self, *, ready: bool) -> None:
        end = time.monotonic() + 60
        with self.client() as client:
            while client.get("/readyz").json()["ready"] is not ready:
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.1)

    def forget_peaks(self) -> None:
        """Forget the highest memory so far, of the gateway and of its children."""
        for process in self._processes():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Return the highest memory of the gateway itself since then."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def _processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children()]

    def _find(self) -> None:
        """Ask the ports that the process listens on which of them is the gateway's."""
        for connection in psutil.Process(self.process.pid).net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN:
                continue
            url = f"{'https' if self._proof else 'http'}://127.0.0.1:{connection.laddr.port}"
            try:
                found = httpx.get(f"{url}/readyz", verify=self._proof or True, trust_env=False).json()
            except (httpx.HTTPError, ValueError):
                continue
            # The health endpoint of the process tells more.
            if "pid" not in found and found["ready"]:
                self.url = url
