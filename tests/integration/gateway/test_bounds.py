"""What is sent to fill memory, or to break decoders, is refused in bounded memory; and what is lost comes back."""

from __future__ import annotations

import socket
import struct
import time
import zlib
from typing import TYPE_CHECKING

import cv2
import httpx
import pytest

from support.dicom_files import DEFLATED, make_sample
from support.gateway import GatewayProcess, InferenceProcess
from support.mutants import RLE, make_mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

PATH = "/v1/classifications"
TWO_GIB = 2 << 30
SLACK = 64 << 20
"""More memory than a request of the allowed 8 MiB needs in its copies."""
CHUNK = bytes(1 << 20)


def post(client: httpx.Client, data: bytes, media_type: str) -> httpx.Response:
    return client.post(PATH, content=data, headers={"Content-Type": media_type})


def send(gateway: GatewayProcess, *lines: str, chunked: bool) -> tuple[bytes, int]:
    """Send up to 2 GiB, as one that reads only at the end; return the answer and how much was taken."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    head = [f"POST {PATH} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {gateway.key}"]
    sent = 0
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall("\r\n".join([*head, "Content-Type: application/dicom", *lines, "", ""]).encode())
        try:
            while sent < TWO_GIB:
                connection.sendall(b"100000\r\n" + CHUNK + b"\r\n" if chunked else CHUNK)
                sent += len(CHUNK)
        except OSError:
            pass
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass
    return answer, sent


@pytest.mark.parametrize("line", [f"Content-Length: {TWO_GIB}", "Transfer-Encoding: chunked"])
def test_a_file_of_2_gib_is_refused_before_it_has_arrived(gateway: GatewayProcess, line: str) -> None:
    gateway.forget_peaks()
    before = gateway.peak_bytes()
    answer, sent = send(gateway, line, chunked="chunked" in line)
    assert sent < TWO_GIB
    assert b" 413 " in answer.partition(b"\r\n")[0]
    assert b"application/problem+json" in answer
    assert gateway.peak_bytes() - before < SLACK


def test_a_caller_that_streams_reads_the_refusal(client: httpx.Client) -> None:
    def stream() -> Iterator[bytes]:
        for _ in range(TWO_GIB // len(CHUNK)):
            yield CHUNK

    answer = client.post(PATH, content=stream(), headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["reason"]) == (413, "too-large")


def png_bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", deflated(1 << 30, zlib_head=True))
        + chunk(b"IEND", b"")
    )


def deflated(size: int, *, zlib_head: bool = False) -> bytes:
    """Return a stream that inflates to `size` zeros, made without deflating them all."""
    compressor = zlib.compressobj(9, wbits=-15)
    block = compressor.compress(bytes(1 << 24)) + compressor.flush(zlib.Z_FULL_FLUSH)
    body = block * (size >> 24) + b"\x03\x00"
    return b"\x78\xda" + body + bytes(4) if zlib_head else body


def jpeg_bomb(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", 65500, 65500) + jpeg[at + 4 :]


def deflated_bomb() -> bytes:
    whole = make_sample(DEFLATED).part10()
    start = whole.index(b"1.2.840.10008.1.2.1.99") + 22
    return whole[:start] + deflated(1 << 30)


def huge(**changes: int) -> bytes:
    return make_sample().set(**changes).part10()


def many_frames() -> bytes:
    sample = make_sample()
    sample.attributes[0x0028_0008] = ("IS", b"99999")
    return sample.part10()


def rle_bomb() -> bytes:
    """Runs of 128 pixels out of two bytes, up to the most pixels that a frame may have, and beyond."""
    sample = make_sample(RLE).set(rows=4096, columns=4097)
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * (1 << 17)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    sample.pixels = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return sample.part10()


def test_bombs_are_refused_in_bounded_memory(gateway: GatewayProcess, client: httpx.Client, png: bytes) -> None:
    jpeg = bytes(cv2.imencode(".jpg", cv2.imdecode(as_array(png), cv2.IMREAD_GRAYSCALE))[1])
    bombs = {
        "png": (png_bomb(), "image/png"),
        "jpeg": (jpeg_bomb(jpeg), "image/jpeg"),
        "deflated": (deflated_bomb(), "application/dicom"),
        "rows and columns": (huge(rows=65535, columns=65535), "application/dicom"),
        "frames": (many_frames(), "application/dicom"),
        "rle": (rle_bomb(), "application/dicom"),
    }
    gateway.forget_peaks()
    before = gateway.peak_bytes()
    for name, (data, media_type) in bombs.items():
        answer = post(client, data, media_type)
        assert answer.status_code == 422, name
        assert answer.headers["content-type"] == "application/problem+json", name
    assert gateway.peak_bytes() - before < SLACK
    assert post(client, png, "image/png").status_code == 200


def as_array(data: bytes) -> np.ndarray:
    import numpy as np

    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("count", [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_damaged_instances_get_an_answer_or_a_problem(client: httpx.Client, count: int) -> None:
    statuses = set()
    for number in range(count):
        answer = post(client, make_mutant(20260301, number).data, "application/dicom")
        statuses.add(answer.status_code)
        assert answer.status_code in {200, 422}, number
        assert b"CANARY" not in answer.content, number
    assert statuses == {200, 422}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n", 431),
        (b"POST /v1/classifications HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_a_problem_too(gateway: GatewayProcess, head: bytes, status: int) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(head)
            answer = connection.recv(4096)
        except ConnectionError:
            pytest.skip("the refusal was lost with the connection")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in answer


def test_a_killed_inference_service_is_a_problem_until_it_is_back(
    gateway: GatewayProcess, client: httpx.Client, inference: InferenceProcess, png: bytes
) -> None:
    assert post(client, png, "image/png").status_code == 200
    inference.kill()
    try:
        answer = post(client, png, "image/png")
        gateway.wait_until(ready=False)
        later = post(client, png, "image/png")
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/models").status_code == 503
    finally:
        inference.restart()
    for each in (answer, later):
        assert (each.status_code, each.json()["status"]) == (503, 503)
        assert int(each.headers["retry-after"]) >= 1
    gateway.wait_until(ready=True)
    assert post(client, png, "image/png").status_code == 200


def test_killed_children_are_replaced(gateway: GatewayProcess, client: httpx.Client, png: bytes) -> None:
    import psutil

    for child in psutil.Process(gateway.process.pid).children():
        child.kill()
    end = time.monotonic() + 60
    while (answer := post(client, png, "image/png")).status_code != 200:
        assert answer.status_code in {422, 503}
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_more_than_is_taken_at_once_is_refused_with_a_time_to_come_back(
    inference: InferenceProcess, tmp_path, png: bytes
) -> None:
    bounds = {"GATEWAY__MAX_REQUESTS": 1, "GATEWAY__MAX_BUFFERED_BYTES": 1 << 20, "GATEWAY__UPLOAD_TIMEOUT_S": 3}
    with GatewayProcess(tmp_path, inference, **bounds) as gateway, gateway.client() as client:
        answer = post(client, bytes(2 << 20), "image/png")
        assert (answer.status_code, answer.json()["reason"]) == (503, "busy")
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\nContent-Type: image/png"
            slow.sendall(f"{head}\r\nContent-Length: 1000\r\n\r\n".encode())
            while (answer := post(client, png, "image/png")).status_code == 200:
                pass
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert post(client, png, "image/png").status_code == 200


def test_the_model_is_not_asked_for_callers_that_have_gone(
    gateway: GatewayProcess, client: httpx.Client, clip: bytes
) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    head = [f"POST {PATH} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {gateway.key}"]
    head += ["Content-Type: application/dicom", f"Content-Length: {len(clip)}", "", ""]
    callers = [socket.create_connection((host, int(port)), timeout=60) for _ in range(8)]
    for caller in callers:
        caller.sendall("\r\n".join(head).encode() + clip)
    for caller in callers:
        caller.close()
    end = time.monotonic() + 30
    told = f'fetalmlops_gateway_requests_total{{reason="disconnected",route="{PATH}",status="408"}}'
    while told not in client.get("/metrics").text:
        assert time.monotonic() < end, gateway.log.read_text()
        time.sleep(0.1)
    assert post(client, clip, "application/dicom").status_code == 200
