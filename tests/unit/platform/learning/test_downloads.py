"""Downloads against a real HTTP server that breaks off, ignores ranges, lies, or is not there; archives that would escape."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.errors import ContractError, DigestMismatchError, SettingsError, TransientError
from fetalmlops.platform.learning import downloads
from fetalmlops.platform.learning.downloads import Offer, download, find_offer, read_catalogue, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator


def _zip(entries: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, data in entries.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return target.getvalue()


DATA = _zip({"set/marker.csv": b"a;b", "set/Images/a.png": bytes(range(256)) * 2000})


class Host(ThreadingHTTPServer):
    """Serves one file, as badly as a test wants."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data = DATA
        self.ranges = True
        self.status = 0
        self.most = len(DATA)
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.zip"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.requests.append(wanted)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted and self.server.ranges else 0
        body = self.server.data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.data) - 1}/{len(self.server.data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.most])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _offer(host: Host | None = None) -> Offer:
    return Offer(
        title="A set",
        page="http://127.0.0.1/page",
        url=host.url if host else "http://127.0.0.1:9/file.zip",
        file="file.zip",
        size=len(DATA),
        md5=hashlib.md5(DATA).hexdigest(),
        layout="fetal-planes",
        marker="marker.csv",
        licence="CC BY 4.0",
    )


def test_a_file_is_downloaded_once_with_its_progress(host: Host, tmp_path: Path) -> None:
    seen: list[int] = []
    archive = download(_offer(host), tmp_path, progress=seen.append)
    assert archive.read_bytes() == DATA
    assert seen[-1] == len(DATA)
    assert download(_offer(host), tmp_path) == archive
    assert host.requests == [""]


def test_a_host_that_breaks_off_is_asked_for_the_rest(host: Host, tmp_path: Path) -> None:
    host.most = len(DATA) // 3
    assert download(_offer(host), tmp_path).read_bytes() == DATA
    assert host.requests[:2] == ["", f"bytes={host.most}-"]
    assert len(host.requests) == 4


def test_a_part_of_an_earlier_run_is_gone_on_with(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(DATA[:1000])
    assert download(_offer(host), tmp_path).read_bytes() == DATA
    assert host.requests == ["bytes=1000-"]


def test_a_host_without_ranges_begins_anew(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    host.ranges = False
    assert download(_offer(host), tmp_path).read_bytes() == DATA


def test_a_host_that_sends_nothing_is_given_up(host: Host, tmp_path: Path) -> None:
    host.most = 0
    with pytest.raises(TransientError, match="ConnectionError; run the command again"):
        download(_offer(host), tmp_path)
    assert len(host.requests) == downloads._ATTEMPTS


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, downloads._ATTEMPTS)])
def test_an_error_of_the_host_is_tried_again_where_that_can_help(
    host: Host, tmp_path: Path, status: int, requests: int
) -> None:
    host.status = status
    with pytest.raises(TransientError, match=f"HTTP {status}"):
        download(_offer(host), tmp_path)
    assert len(host.requests) == requests


@pytest.mark.parametrize("damage", ["changed", "longer"])
def test_other_bytes_are_removed(host: Host, tmp_path: Path, damage: str) -> None:
    host.data = DATA[:-1] + b"?" if damage == "changed" else DATA + b"more"
    host.most = len(host.data)
    with pytest.raises(DigestMismatchError, match="size and MD5"):
        download(_offer(host), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_part_does_not_stay(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    with pytest.raises(DigestMismatchError):
        download(_offer(host), tmp_path)
    assert download(_offer(host), tmp_path).read_bytes() == DATA


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.zip"
    with pytest.raises(TransientError, match=r"got URLError; .*put it to .*file\.zip, and run the command again"):
        download(_offer(), tmp_path, url=url)


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "here.zip").write_bytes(DATA)
    with pytest.raises(SettingsError, match="https or http"):
        download(_offer(), tmp_path / "out", url=(tmp_path / "here.zip").as_uri())


def test_too_little_space_is_said_before_anything_comes(host: Host, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="free space"):
        download(msgspec.structs.replace(_offer(host), size=1 << 60), tmp_path)
    assert host.requests == []


def _unpack(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "a.zip").write_bytes(data)
    unpack(tmp_path / "a.zip", tmp_path / "out")
    return tmp_path / "out"


def test_an_archive_is_unpacked_once(tmp_path: Path) -> None:
    out = _unpack(tmp_path, DATA)
    assert (out / "set/marker.csv").read_bytes() == b"a;b"
    (out / "set/marker.csv").write_bytes(b"mine")
    unpack(tmp_path / "a.zip", out)
    assert (out / "set/marker.csv").read_bytes() == b"mine"


def _link() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, "/etc/passwd")
    return target.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        _zip({"../escaped": b"x"}),
        _zip({"a/../../escaped": b"x"}),
        _zip({"/escaped": b"x"}),
        _zip({"..\\escaped": b"x"}),
        _zip({"c:escaped": b"x"}),
        _link(),
    ],
    ids=["up", "down-and-up", "absolute", "backslash", "drive", "link"],
)
def test_what_would_leave_the_folder_is_refused(tmp_path: Path, data: bytes) -> None:
    place = tmp_path / "deep"
    place.mkdir()
    with pytest.raises(ContractError, match="plain files within its folder"):
        _unpack(place, data)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "deep"]


def test_an_archive_that_grows_beyond_measure_is_refused(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(20_000_000))
    with pytest.raises(ContractError, match="grows more"):
        _unpack(tmp_path, target.getvalue())


@pytest.mark.parametrize("data", [b"", b"no zip", DATA[:-100], DATA.replace(b"a;b", b"a;c", 1)])
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ContractError, match="cannot be unpacked"):
        _unpack(tmp_path, data)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_the_catalogue_is_typed_and_names_its_sets() -> None:
    assert read_catalogue()["fetal-planes"].url.startswith("https://")
    with pytest.raises(SettingsError, match="among fetal-planes"):
        find_offer("another")


def test_the_command_downloads_verifies_unpacks_and_says_what_is_next(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(downloads, "read_catalogue", lambda: {"fetal-planes": _offer()})
    command = ["data", "fetch", "fetal-planes", "--into", str(tmp_path / "into"), "--url", host.url]
    for _ in range(2):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert f"fetalmlops data add {tmp_path}/into/unpacked/set --layout fetal-planes" in result.stdout
    assert host.requests == [""]
