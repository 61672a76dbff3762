"""What callers are answered, by a real gateway before a real inference service."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.explain import frame_map
from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.inference.local import LocalModel
from support.gateway import ACCOUNT, GatewayProcess, InferenceProcess

if TYPE_CHECKING:
    import httpx

PATH = "/v1/classifications"


def post(client: httpx.Client, data: bytes, media_type: str, **query: str) -> httpx.Response:
    return client.post(PATH, content=data, headers={"Content-Type": media_type}, params=query)


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(load_bundle(bundled_files()))


def test_files_are_answered_as_the_domain_judges_them(
    client: httpx.Client, model: LocalModel, screen: np.ndarray, png: bytes
) -> None:
    answer = post(client, png, "image/png").json()
    expected = model.judge_screen(screen)
    assert [*answer["probabilities"]] == [*PLANES]
    assert [*answer["brain_probabilities"]] == [*BRAIN_PLANES]
    np.testing.assert_allclose([*answer["probabilities"].values()], expected.result.probabilities, atol=2e-6)
    assert answer["plane"] == expected.result.plane
    assert answer["decision"] == {
        "outcome": expected.result.verdict.decision,
        "reasons": [*expected.result.verdict.reasons],
    }
    assert answer["ood_score"] == pytest.approx(expected.result.ood_score, rel=1e-3)
    assert answer["quality"]["sharpness"] == pytest.approx(expected.normalized.quality.sharpness, abs=1e-6)
    assert answer["model"]["digest"] == model.bundle.digest
    assert answer["model"]["release_status"] == "demonstration"
    assert answer["deidentification"] == {"profile": "", "pixels": "unproven"}
    assert (answer["map"], answer["overlay"], answer["not_available"]) == (None, None, [])
    assert len(answer["trace_id"]) == 32


def test_the_kinds_of_files(client: httpx.Client, dicom: bytes, clip: bytes, jpeg: bytes) -> None:
    single = post(client, dicom, "application/dicom").json()
    assert single["deidentification"] == {"profile": "stream", "pixels": "regions"}
    assert single["plane"] == "brain"
    cine = post(client, clip, "application/dicom; charset=binary").json()
    assert (cine["frames"]["total"], cine["frames"]["judged"], cine["plane"]) == (3, 3, "femur")
    assert post(client, jpeg, "image/jpeg").json()["plane"] == "abdomen"


def test_pixels_that_nothing_proves_are_judged_and_called_unproven(client: httpx.Client, dicom: bytes) -> None:
    regions = bytes.fromhex("18001160")
    assert dicom.count(regions) == 1
    answer = post(client, dicom.replace(regions, bytes.fromhex("18001260")), "application/dicom").json()
    assert answer["deidentification"] == {"profile": "stream", "pixels": "unproven"}


def test_a_map_in_numbers_is_that_of_the_likeliest_plane(
    client: httpx.Client, model: LocalModel, screen: np.ndarray, png: bytes
) -> None:
    answer = post(client, png, "image/png", explanation="map").json()
    judged = model.judge_screen(screen)
    index = model.bundle.manifest.planes.index(answer["plane"])
    rows, columns = judged.normalized.frames.shape[1:]
    expected = frame_map(judged.output.maps[0, index], rows, columns, model.bundle.manifest.input)
    np.testing.assert_allclose(answer["map"]["values"], expected, atol=1e-3)
    assert (answer["map"]["rows"], answer["map"]["columns"]) == expected.shape
    assert (answer["map"]["frame"], answer["overlay"]) == (1, None)


def picture(answer: dict) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(answer["overlay"]["data"]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def test_an_overlay_shows_no_frame_whose_pixels_are_not_known_to_be_clean(client: httpx.Client, png: bytes) -> None:
    answer = post(client, png, "image/png", explanation="overlay").json()
    assert answer["overlay"]["frame"] == "left_out"
    page = picture(answer)
    width = page.shape[1] // 2 - 20
    assert not page[20 : answer["frames"]["rows"] - 20, 20:width].any()
    assert page[20 : answer["frames"]["rows"] - 20, page.shape[1] // 2 + 20 :].any()


@pytest.mark.parametrize(
    ("word", "shown"),
    [("regions", {"dicom": "shown", "png": "left_out"}), ("clean", {"dicom": "shown", "png": "shown"})],
)
@pytest.mark.slow
def test_an_overlay_shows_the_frame_where_a_person_has_said_what_is_known_of_it(
    inference: InferenceProcess, tmp_path, dicom: bytes, png: bytes, word: str, shown: dict[str, str]
) -> None:
    with GatewayProcess(tmp_path, inference, GATEWAY__PIXELS=word) as gateway, gateway.client() as client:
        for kind, (data, media_type) in {"dicom": (dicom, "application/dicom"), "png": (png, "image/png")}.items():
            answer = post(client, data, media_type, explanation="overlay").json()
            assert answer["overlay"]["frame"] == shown[kind]
            assert picture(answer)[30:100, 30:200].any() == (shown[kind] == "shown")


def test_models_tell_what_serves(client: httpx.Client, model: LocalModel) -> None:
    (served,) = client.get("/v1/models").json()["models"]
    manifest = model.bundle.manifest
    assert (served["role"], served["planes"], served["pipeline"]) == ("champion", [*PLANES], "plain")
    assert served["model"]["digest"] == model.bundle.digest
    assert served["figures"]["accept"] == manifest.decision.accept
    assert served["figures"]["metrics"] == manifest.metrics


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "reason"),
    [
        ("GET", "/absent", {}, 404, "not-found"),
        ("GET", PATH, {}, 405, "method"),
        ("POST", "/healthz", {}, 405, "method"),
        ("POST", PATH, {}, 415, "media-type"),
        ("POST", PATH, {"Content-Type": "application/json"}, 415, "media-type"),
        ("POST", PATH, {"Content-Type": "image/png", "Content-Encoding": "gzip"}, 415, "content-encoding"),
        ("POST", PATH + "?explanation=all", {"Content-Type": "image/png"}, 422, "parameter"),
        ("POST", PATH + "?explanations=map", {"Content-Type": "image/png"}, 422, "parameter"),
        ("POST", PATH, {"Content-Type": "image/png"}, 422, "undecodable"),
        ("POST", PATH, {"Content-Type": "application/dicom"}, 422, "undecodable"),
        ("GET", "/v1/models", {"Authorization": "Bearer another"}, 401, "key"),
        ("GET", "/metrics", {"Authorization": "Basic eDp5"}, 401, "key"),
        ("POST", PATH, {"Authorization": ""}, 401, "key"),
    ],
)
def test_refusals_are_problems(
    client: httpx.Client, method: str, path: str, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = client.request(method, path, headers=headers, content=b"not a file" if method == "POST" else None)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["reason"]) == (status, status, reason)
    assert problem["type"] == f"urn:fetalmlops:problem:{reason}"
    assert problem["detail"].startswith("Expected ")
    assert len(problem["trace_id"]) == 32
    if status == 405:
        assert answer.headers["allow"]
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


def test_health_and_the_description_need_no_key_and_metrics_do(gateway: GatewayProcess, png: bytes) -> None:
    with gateway.client(keyed=False) as stranger:
        assert stranger.get("/healthz").json() == {"process": "gateway", "ready": True, "waiting": []}
        assert stranger.get("/readyz").status_code == 200
        described = stranger.get("/openapi.json").json()
        assert post(stranger, png, "image/png").status_code == 401
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]) == {PATH, "/v1/models", "/metrics", "/healthz", "/readyz", "/openapi.json"}
    body = described["paths"][PATH]["post"]["requestBody"]["content"]
    assert [*body] == ["application/dicom", "image/png", "image/jpeg"]
    with gateway.client() as caller:
        post(caller, png, "image/png")
        metrics = caller.get("/metrics").text
    assert 'fetalmlops_gateway_requests_total{reason="",route="/v1/classifications",status="200"}' in metrics
    assert 'reason="key",route="/v1/classifications",status="401"' in metrics
    assert "fetalmlops_gateway_held_bytes 0.0" in metrics


def test_the_log_names_the_account_and_never_the_key(gateway: GatewayProcess, client: httpx.Client, png: bytes) -> None:
    trace_id = post(client, png, "image/png").json()["trace_id"]
    # It is written after the answer.
    end = time.monotonic() + 30
    while trace_id not in (log := gateway.log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    (line,) = [json.loads(line) for line in log.splitlines() if trace_id in line]
    assert (line["account"], line["route"], line["status"]) == (ACCOUNT, PATH, 200)
    assert gateway.key not in log
