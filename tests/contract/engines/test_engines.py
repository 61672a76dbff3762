"""What every engine must do. A new engine joins by one line in `ENGINES`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.bundle import Bundle, load_bundle, seal_bundle
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.engine import OUTPUT_NAMES, Engine
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Precision
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine, supports_bf16
from fetalmlops.platform.inference.bundles import bundled_files

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINES: dict[str, Callable[[Bundle, Precision], Engine]] = {
    "openvino": lambda bundle, precision: OpenVinoEngine(bundle, precision=precision),
}
PRECISIONS = [
    Precision.F32,
    pytest.param(Precision.BF16, marks=pytest.mark.skipif(not supports_bf16(), reason="this CPU has no bf16")),
]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(bundled_files())


@pytest.fixture(scope="module", params=ENGINES.values(), ids=ENGINES.keys())
def build(request: pytest.FixtureRequest) -> Callable[[Bundle, Precision], Engine]:
    return request.param


@pytest.fixture(scope="module", params=PRECISIONS, ids=str)
def engine(request: pytest.FixtureRequest, build: Callable[[Bundle, Precision], Engine], bundle: Bundle) -> Engine:
    return build(bundle, request.param)


@pytest.fixture(scope="module")
def batch(bundle: Bundle) -> np.ndarray:
    return prepare(bundle.reference.frames, bundle.manifest.input).batch


def test_it_reproduces_the_reference(engine: Engine, bundle: Bundle) -> None:
    assert check_engine(bundle, engine) <= bundle.manifest.variants[engine.precision].tolerance


def test_it_names_itself_with_its_version(engine: Engine) -> None:
    name, _, version = engine.name.partition(" ")
    assert name
    assert version[0].isdigit()


def test_shapes_and_types(engine: Engine, bundle: Bundle, batch: np.ndarray) -> None:
    output = engine.infer(batch)
    assert output.logits.shape == (len(batch), len(PLANES))
    assert output.brain_logits.shape == (len(batch), len(BRAIN_PLANES))
    assert output.embedding.shape == (len(batch), bundle.manifest.embedding_length)
    assert {getattr(output, name).dtype for name in OUTPUT_NAMES} == {np.dtype(np.float32)}


def test_the_means_of_the_maps_are_the_logits(engine: Engine, batch: np.ndarray) -> None:
    output = engine.infer(batch)
    tolerance = 1e-4 if engine.precision is Precision.F32 else 0.2
    np.testing.assert_allclose(output.maps.mean(axis=(2, 3)), output.logits, atol=tolerance)


def test_the_embedding_is_the_end_of_the_features(engine: Engine, batch: np.ndarray) -> None:
    output = engine.infer(batch)
    np.testing.assert_array_equal(output.features[:, -output.embedding.shape[1] :], output.embedding)


def test_each_frame_is_judged_alone(engine: Engine, batch: np.ndarray) -> None:
    together = engine.infer(batch)
    reverse = engine.infer(batch[::-1])
    tolerance = 1e-4 if engine.precision is Precision.F32 else 0.1
    for index in range(len(batch)):
        alone = engine.infer(batch[index : index + 1])
        np.testing.assert_allclose(alone.logits[0], together.logits[index], atol=tolerance)
        np.testing.assert_allclose(reverse.logits[-1 - index], together.logits[index], atol=tolerance)


def test_outputs_belong_to_the_caller(engine: Engine, batch: np.ndarray) -> None:
    first = engine.infer(batch[:1])
    kept = {name: getattr(first, name).copy() for name in OUTPUT_NAMES}
    engine.infer(np.zeros_like(batch))
    for name in OUTPUT_NAMES:
        np.testing.assert_array_equal(getattr(first, name), kept[name])


def test_the_input_is_left_as_it_was(engine: Engine, batch: np.ndarray) -> None:
    given = batch.copy()
    engine.infer(given)
    np.testing.assert_array_equal(given, batch)


def test_any_number_of_frames_and_any_memory_order(engine: Engine, batch: np.ndarray) -> None:
    many = np.repeat(batch[:1], 17, axis=0)
    assert len(engine.infer(many)) == 17
    every_other = np.repeat(batch[:1], 6, axis=0)[::2]
    np.testing.assert_array_equal(engine.infer(every_other).logits, engine.infer(every_other.copy()).logits)


def test_it_runs_in_a_thread_other_than_its_makers(engine: Engine, batch: np.ndarray) -> None:
    expected = engine.infer(batch).logits
    with ThreadPoolExecutor(1) as pool:
        ident, found = pool.submit(lambda: (threading.get_ident(), engine.infer(batch).logits)).result()
    assert ident != threading.get_ident()
    np.testing.assert_array_equal(found, expected)


def test_two_engines_of_one_bundle_agree(
    build: Callable[[Bundle, Precision], Engine], bundle: Bundle, batch: np.ndarray
) -> None:
    first, second = build(bundle, Precision.F32), build(bundle, Precision.F32)
    np.testing.assert_array_equal(first.infer(batch).logits, second.infer(batch).logits)


def test_a_missing_precision_is_refused(build: Callable[[Bundle, Precision], Engine], bundle: Bundle) -> None:
    with pytest.raises(ContractError, match="int8"):
        build(bundle, Precision.INT8)


@pytest.mark.parametrize("network", [b"", b"not a network", None], ids=["empty", "garbage", "cut off"])
def test_a_broken_network_is_refused(
    build: Callable[[Bundle, Precision], Engine], bundle: Bundle, network: bytes | None
) -> None:
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    contents["model.onnx"] = contents["model.onnx"][:5000] if network is None else network
    with pytest.raises(ContractError):
        build(load_bundle(seal_bundle(bundle.manifest, contents)), Precision.F32)
