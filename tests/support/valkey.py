"""A real Valkey that a test may stop and start."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import redis

from fetalmlops.platform.embedded.layout import Layout
from fetalmlops.platform.embedded.ports import choose_ports
from fetalmlops.platform.embedded.valkey import configure_valkey, valkey_command
from fetalmlops.platform.keyvalue import open_valkey_blocking
from fetalmlops.platform.settings import Settings, ValkeySettings

_PASSWORD = "of-a-test"


class OwnValkey:
    """A server on a port of its own with its data in a folder; it is started, and keeps the data when it is stopped."""

    def __init__(self, home: Path) -> None:
        self._layout = Layout(home)
        self._layout.prepare()
        self.valkey = ValkeySettings(port=choose_ports({"valkey": 0})["valkey"], password=_PASSWORD)
        configure_valkey(self._layout, port=self.valkey.port, password=_PASSWORD)
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        return {"FETALMLOPS_VALKEY__PORT": str(self.valkey.port), "FETALMLOPS_VALKEY__PASSWORD": _PASSWORD}

    def start(self) -> None:
        self._process = subprocess.Popen(
            valkey_command(self._layout), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        client, end = open_valkey_blocking(Settings(valkey=self.valkey)), time.monotonic() + 30
        while True:
            try:
                client.ping()
            except redis.RedisError:
                assert time.monotonic() < end, "Valkey did not start"
                time.sleep(0.05)
            else:
                client.close()
                return

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(20)
