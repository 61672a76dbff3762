"""Peers that break the protocol, or never end: what they cost, and that nothing of them is left."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fetalmlops.listener import bounds
from fetalmlops.platform.objects import open_objects
from support.wire import (
    ABORTED,
    ACCEPTED,
    DATA,
    ECHO,
    RELEASE,
    RELEASED,
    STORE,
    ULTRASOUND,
    VERIFICATION,
    command,
    echo_command,
    fragment,
    message,
    pdu,
    request,
    store_command,
    store_with_uid,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom.dataset import Dataset

    Make = Callable[..., Dataset]
    Encode = Callable[..., bytes]
    Listen = Callable[..., Any]


MIB = 1 << 20
BY_USER, BY_PROVIDER = (0, 0), (2, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(100),
        pdu(DATA, fragment(ECHO, b"x", is_command=True)),
        pdu(RELEASE, bytes(4)),
        struct.pack(">BxI", 1, 0xFFFFFFFF),
        pdu(1, b"\xff" * 200),
        pdu(1, b""),
    ],
    ids=["http", "zeros", "data first", "release first", "endless request", "garbage request", "empty request"],
)
def test_what_is_no_request_is_aborted_and_takes_no_place(listen: Listen, data: bytes) -> None:
    listener = listen(max_associations=1, acse_timeout_s=300)
    sender = listener.connect()
    sender.send(data)
    assert sender.aborted() == BY_USER
    listener.wait_until_quiet()
    listener.associate()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (request(), BY_PROVIDER),
        (struct.pack(">BxI", 0xD5, 10), BY_PROVIDER),
        (struct.pack(">BxI", DATA, 0xFFFFFFFF), BY_PROVIDER),
        (struct.pack(">BxI", DATA, 131073), BY_PROVIDER),
        (struct.pack(">BxI", RELEASE, 0xFFFFFFFF), BY_PROVIDER),
        (pdu(DATA, struct.pack(">IBB", 0xFFFFFFFF, ECHO, 3)), BY_PROVIDER),
        (pdu(DATA, struct.pack(">IBB", 1, ECHO, 3)), BY_PROVIDER),
        (pdu(DATA, struct.pack(">IB", 1, ECHO)), BY_PROVIDER),
        (pdu(DATA, fragment(ECHO, b"\xff" * 20, is_command=True)), BY_PROVIDER),
        (pdu(DATA, fragment(99, echo_command(), is_command=True)), BY_USER),
        (message(99, store_command(), b"dataset"), BY_PROVIDER),
        (pdu(DATA, fragment(STORE, b"dataset", is_command=False)), BY_PROVIDER),
        (pdu(DATA, fragment(ECHO, bytes(60_000), is_command=True, last=False)) * 2, BY_PROVIDER),
        (message(STORE, command(0x20, dataset=True, AffectedSOPClassUID=ULTRASOUND), b"identifier"), BY_PROVIDER),
        (message(STORE, store_command(sop_class=VERIFICATION), b"dataset"), BY_PROVIDER),
        (message(STORE, store_command(sop_class="1.2.3"), b"dataset"), BY_PROVIDER),
        (message(STORE, command(0x10, AffectedSOPClassUID=ULTRASOUND)), BY_USER),
        (message(ECHO, command(0x8030, MessageIDBeingRespondedTo=1, Status=0)), BY_USER),
        (message(STORE, command(1, dataset=True, AffectedSOPClassUID=ULTRASOUND, Priority=0), b"data"), BY_USER),
        (message(STORE, store_with_uid(b""), b"data"), BY_USER),
        (message(STORE, store_with_uid(b"1" * 66), b"data"), BY_PROVIDER),
        (message(STORE, store_command()) + pdu(RELEASE, bytes(4)), None),
        (message(STORE, store_command()) + pdu(ABORTED, bytes(4)), None),
    ],
    ids=[
        "second request",
        "unknown type",
        "endless pdu",
        "longer than agreed",
        "endless release",
        "endless fragment",
        "short fragment",
        "empty fragment",
        "garbage command",
        "unknown context",
        "dataset in unknown context",
        "dataset first",
        "endless command",
        "other service",
        "a store as an echo",
        "unknown class",
        "other service without a dataset",
        "response",
        "no instance uid",
        "empty instance uid",
        "endless instance uid",
        "release within a message",
        "abort within a message",
    ],
)
def test_a_broken_protocol_ends_the_association_and_keeps_nothing(
    listener: Any, data: bytes, expected: tuple[int, int] | None
) -> None:
    sender, other = listener.associate(), listener.associate()
    sender.send(data)
    if expected is not None:
        assert sender.aborted() == expected
    sender.connection.close()
    other.send(message(ECHO, echo_command()))
    assert other.response().Status == 0x0000
    other.release()
    listener.wait_until_quiet()
    assert listener.parts.files("phi") == []
    assert listener.parts.incoming() == []


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_leave_nothing_behind(listener: Any, dataset: Make, encode: Encode, seed: int) -> None:
    rng = random.Random(seed)
    whole = request() + message(STORE, store_command(), encode(dataset())) + pdu(RELEASE, bytes(4))
    for _ in range(50):
        damaged = bytearray(whole[: rng.choice([len(whole), rng.randrange(1, len(whole))])])
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        sender = listener.connect()
        with contextlib.suppress(ConnectionError):
            sender.send(bytes(damaged))
            sender.connection.shutdown(socket.SHUT_WR)
        listener.wait_until_quiet()
        assert listener.parts.incoming() == []


@pytest.mark.parametrize("cut", [3, 6, 7, 200])
def test_a_sender_that_vanishes_leaves_nothing_behind(listener: Any, cut: int) -> None:
    sender = listener.associate()
    piece = struct.pack(">BxIIBB", DATA, 5000, 4996, STORE, 0) + bytes(4994)
    sender.send(message(STORE, store_command()) + piece + piece[:cut])
    wait_for(listener.parts.incoming)
    sender.connection.close()
    listener.wait_until_quiet()
    assert listener.parts.files("phi") == []
    assert listener.parts.incoming() == []


def test_a_claim_of_4_gib_takes_no_memory(listener: Any) -> None:
    process = psutil.Process()
    for prepare in (listener.connect, listener.associate):
        sender = prepare()
        before = process.memory_info().rss
        kind = DATA if prepare == listener.associate else 1
        sender.send(struct.pack(">BxI", kind, 0xFFFFFFFF))
        grown, sent = 0, 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 300:
                sender.send(bytes(MIB))
                sent += 1
                grown = max(grown, process.memory_info().rss - before)
        assert sent < 300
        assert grown < 50 * MIB


def test_a_long_dataset_takes_no_memory(listener: Any, dataset: Make, encode: Encode) -> None:
    process, sender = psutil.Process(), listener.associate()
    body = encode(dataset(PixelData=None)) + struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", 300 * MIB)
    sender.send(message(STORE, store_command()) + pdu(DATA, fragment(STORE, body, is_command=False, last=False)))
    before, grown = process.memory_info().rss, 0
    piece = pdu(DATA, fragment(STORE, bytes(65536), is_command=False, last=False))
    for _ in range(300 * MIB // 65536):
        sender.send(piece)
        grown = max(grown, process.memory_info().rss - before)
    sender.send(pdu(DATA, fragment(STORE, b"", is_command=False)))
    assert sender.response().Status == 0x0000
    assert grown < 50 * MIB


def test_a_sender_that_does_not_wait_for_answers_fills_no_memory(
    listener: Any, dataset: Make, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    kept = type(listener.parts.objects).add_file
    monkeypatch.setattr(
        type(listener.parts.objects), "add_file", lambda *args, **named: go_on.wait(60) and kept(*args, **named)
    )
    sender = listener.associate()
    whole = message(STORE, store_command(), encode(dataset(PixelData=bytes(MIB))), piece=100_000)
    sender.connection.settimeout(2)
    with pytest.raises(TimeoutError):
        sender.send(whole * 40)
    assert len(listener.parts.incoming()) == 2
    go_on.set()


def test_a_silent_sender_is_let_go(listen: Listen) -> None:
    sender = listen(network_timeout_s=0.6).associate()
    assert sender.aborted() == BY_USER


def test_a_sender_that_stops_within_a_pdu_is_let_go(listen: Listen) -> None:
    listener = listen(network_timeout_s=0.6)
    sender = listener.associate()
    sender.send(struct.pack(">BxI", DATA, 1000) + bytes(10))
    listener.wait_until_quiet()
    assert sender.is_closed()


@pytest.mark.parametrize("data", [b"", b"\1", request()[:50]])
def test_a_sender_that_never_asks_is_let_go(listen: Listen, data: bytes) -> None:
    listener = listen(acse_timeout_s=0.3)
    sender = listener.connect()
    sender.send(data)
    assert sender.is_closed()


def test_a_message_that_takes_too_long_is_given_up(listen: Listen) -> None:
    listener = listen(dimse_timeout_s=0.01)
    sender = listener.associate()
    piece = pdu(DATA, fragment(STORE, b"\0" * 8, is_command=False, last=False))
    sender.send(message(STORE, store_command()) + piece)
    wait_for(listener.parts.incoming)
    time.sleep(0.05)
    sender.send(piece)
    assert sender.aborted() == BY_PROVIDER
    listener.wait_until_quiet()
    assert listener.parts.incoming() == []


def test_a_sender_may_wait_longer_for_us_than_we_for_it(
    listen: Listen, dataset: Make, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = listen(network_timeout_s=0.5)
    kept = type(listener.parts.objects).add_file

    def slow(*args: Any, **named: Any) -> Any:
        time.sleep(1.0)
        return kept(*args, **named)

    monkeypatch.setattr(type(listener.parts.objects), "add_file", slow)
    sender = listener.associate()
    assert sender.store(encode(dataset())) == 0x0000
    sender.release()


def test_connections_beyond_all_bounds_are_closed_at_once(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "EXTRA_CONNECTIONS", 2)
    listener = listen(max_associations=1)
    first = listener.associate()
    silent = [listener.connect() for _ in range(2)]
    wait_for(lambda: sum("process_request" in item.name for item in threading.enumerate()) == 3)
    assert listener.connect().is_closed()
    first.send(message(ECHO, echo_command()))
    assert first.response().Status == 0x0000
    for sender in silent:
        sender.send(request())
        assert sender.receive()[0] != ACCEPTED


def test_while_stopping_what_has_begun_is_finished_and_who_is_idle_is_let_go(
    listener: Any, dataset: Make, encode: Encode
) -> None:
    idle, sender = listener.associate(), listener.associate()
    whole = message(STORE, store_command(), encode(dataset()), piece=100)
    sender.send(whole[:-100])
    wait_for(listener.parts.incoming)
    cut_off: list[int] = []
    stopping = threading.Thread(target=lambda: cut_off.append(listener.provider.stop(60)))
    stopping.start()
    assert idle.aborted() == BY_USER
    with pytest.raises(ConnectionRefusedError):
        listener.connect()
    sender.send(whole[-100:])
    assert sender.response().Status == 0x0000
    sender.send(pdu(RELEASE, bytes(4)))
    assert sender.receive()[0] == RELEASED
    stopping.join(60)
    assert cut_off == [0]


def test_who_does_not_finish_in_time_is_cut_off(listener: Any) -> None:
    sender = listener.associate()
    sender.send(message(STORE, store_command()) + pdu(DATA, fragment(STORE, b"ab", is_command=False, last=False)))
    wait_for(listener.parts.incoming)
    assert listener.provider.stop(0) == 1
    assert sender.aborted() == BY_USER
    listener.wait_until_quiet()
    assert listener.parts.incoming() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 4 MiB, where the machine lets us make one."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_while_a_dataset_comes_is_answered(
    listen: Listen, small_disk: Path, dataset: Make, encode: Encode
) -> None:
    from fetalmlops.platform.settings import ObjectSettings, Settings

    listener = listen()
    settings = Settings(home=small_disk, objects=ObjectSettings(phi_url=f"file://{small_disk}"))
    object.__setattr__(listener.parts.intake, "objects", open_objects(settings))
    sender = listener.associate()
    sender.send(message(STORE, store_command(), encode(dataset(PixelData=bytes(8 * MIB))), piece=16_000))
    answer = sender.response()
    assert answer.Status == 0xA700
    assert answer.ErrorComment.startswith("Store is full")
    assert list((small_disk / ".incoming").iterdir()) == []
    assert sender.store(encode(dataset())) == 0x0000


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine, which also names itself as authority, and its key."""
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost "
        f"-keyout {files[1]} -out {files[0]}".split(),
        check=True,
        capture_output=True,
    )
    return files


@pytest.mark.parametrize("required", [False, True])
def test_tls_shakes_hands_without_keeping_others_waiting(
    listen: Listen, certificate: tuple[Path, Path], required: bool, dataset: Make, encode: Encode
) -> None:
    file, key = certificate
    tls = {"enabled": True, "certificate_file": file, "key_file": key, "ca_file": file}
    listener = listen(tls={**tls, "require_client_certificate": required}, acse_timeout_s=20)
    silent = listener.connect()
    context = ssl.create_default_context(cafile=str(file))
    context.check_hostname = False
    sender = listener.connect()
    if required:
        context.load_cert_chain(file, key)
    sender.connection = listener.senders.enter_context(context.wrap_socket(sender.connection))
    sender.associate()
    assert sender.store(encode(dataset(PixelData=bytes(500_000)))) == 0x0000
    sender.release()
    plain = listener.connect()
    plain.send(request())
    assert plain.is_closed() or plain.is_closed()
    silent.connection.close()


def test_tls_refuses_who_has_no_certificate_where_one_is_required(
    listen: Listen, certificate: tuple[Path, Path]
) -> None:
    file, key = certificate
    tls = {"enabled": True, "certificate_file": file, "key_file": key, "ca_file": file}
    listener = listen(tls={**tls, "require_client_certificate": True})
    context = ssl.create_default_context(cafile=str(file))
    context.check_hostname = False
    sender = listener.connect()
    with context.wrap_socket(sender.connection) as connection, pytest.raises(OSError, match="certificate"):
        connection.recv(1)


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
