"""A request's trace, and what stands in no trace, log, metric or answer: whatever names a person."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from support.canaries import Canaries
from support.channels import CHANNELS, SEARCHED
from support.dicom_files import make_sample
from support.gateway import GatewayProcess, InferenceProcess
from support.mutants import CANARY, make_mutant
from support.otlp import OtlpReceiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

PATH = "/v1/classifications"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
NAMES = Canaries([*SEARCHED, CANARY, "CANARY^PATIENT", "CANARY-ID-1", "QXGATEWAY^NAME"])


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as started:
        yield started


@pytest.fixture(scope="module")
def traced(
    inference: InferenceProcess, receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    settings = {"TELEMETRY__OTLP_ENDPOINT": receiver.endpoint, "TELEMETRY__LOG_LEVEL": "DEBUG"}
    with GatewayProcess(tmp_path_factory.mktemp("traced"), inference, **settings) as gateway:
        yield gateway


def post(client: httpx.Client, data: bytes, media_type: str, **headers: str) -> httpx.Response:
    return client.post(PATH, content=data, headers={"Content-Type": media_type, **headers})


def test_the_callers_trace_goes_on(traced: GatewayProcess, receiver: OtlpReceiver, png: bytes) -> None:
    with traced.client() as client:
        answer = post(client, png, "image/png", traceparent=f"00-{TRACE}-{PARENT}-01").json()
        refused = post(client, b"", "image/png", traceparent="not a trace").json()
    assert answer["trace_id"] == TRACE
    assert len(refused["trace_id"]) == 32
    spans = {span.name: span for span in receiver.wait_for([TRACE], 3)[TRACE]}
    rpc = "fetalmlops.rpc.inference.v1.InferenceService/ClassifyFrame"
    assert set(spans) == {f"POST {PATH}", "gateway.read_file", rpc}
    server = spans.pop(f"POST {PATH}")
    assert server.parent == PARENT
    assert server.attributes["http.route"] == PATH
    assert server.attributes["http.response.status_code"] == "200"
    assert {span.parent for span in spans.values()} == {server.span_id}


def named_png(png: bytes) -> bytes:
    """Return the picture with a name in a text chunk, in EXIF and after its end."""
    name = b"QXGATEWAY^NAME"
    chunks = [(b"tEXt", b"Author\0" + name), (b"eXIf", b"MM\0*" + name), (b"zTXt", b"a\0\0" + zlib.compress(name))]
    made = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return png[:33] + made + png[33:] + name


def requests(client: httpx.Client, png: bytes) -> Iterator[httpx.Response]:
    for make in CHANNELS.values():
        yield post(client, make().part10(), "application/dicom")
    for number in range(40):
        yield post(client, make_mutant(20260303, number).data, "application/dicom")
    unproven = make_sample()
    del unproven.attributes[0x0018_6011]
    yield client.post(
        PATH,
        content=unproven.part10(),
        headers={"Content-Type": "application/dicom"},
        params={"explanation": "overlay"},
    )
    yield post(client, named_png(png), "image/png")
    yield post(client, b"QXGATEWAY^NAME", "image/jpeg")
    yield post(client, b"QXGATEWAY^NAME", "image/QXGATEWAY^NAME")
    yield post(client, png, "image/png", tracestate="name=QXGATEWAY^NAME", traceparent=f"00-{TRACE}-{PARENT}-01")
    yield post(client, png, "image/png", **{"X-Patient": "QXGATEWAY^NAME", "User-Agent": "QXGATEWAY^NAME"})
    yield client.get("/v1/QXGATEWAY^NAME")
    yield client.get("/v1/models", params={"name": "QXGATEWAY^NAME"})
    yield client.post(PATH, headers={"Content-Type": "image/png"}, params={"explanation": "QXGATEWAY^NAME"})
    yield client.get("/v1/models", headers={"Authorization": "Bearer QXGATEWAY^NAME"})
    yield client.request("QXGATEWAY", "/v1/models")


def test_no_identifier_stands_in_what_the_gateway_tells(
    traced: GatewayProcess, receiver: OtlpReceiver, png: bytes, tmp_path: Path
) -> None:
    assert NAMES.find(b"".join(make().part10() for make in CHANNELS.values()))
    with traced.client() as client:
        answers = list(requests(client, png))
        told = [b"\n".join([answer.content, str(answer.headers).encode()]) for answer in answers]
        told.append(client.get("/metrics").content)
    last = answers[-2].json()["trace_id"]
    assert receiver.wait_for([last], 1)[last]
    told += [traced.log.read_bytes(), *receiver.raw()]
    for text in told:
        assert not NAMES.find(text), text[:300]
    assert {answer.status_code for answer in answers} >= {200, 401, 404, 415, 422}
    files = {path.name for path in traced.log.parent.rglob("*") if path.is_file()}
    assert files == {"gateway.log", "gateway-keys.toml"}
