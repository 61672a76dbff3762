"""What every engine must do. A new engine joins by one line in `ENGINES`."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.models.bundle import Bundle, load_bundle, seal_bundle
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.engine import OUTPUT_NAMES, Engine
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Precision, Variant
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.choosing import make_engine
from fetalmlops.platform.engines.openvino import OpenVinoEngine, supports_bf16
from fetalmlops.platform.engines.several import SeveralEngines
from fetalmlops.platform.inference.bundles import PACKAGED, bundled_files, packaged_bundle
from fetalmlops.platform.settings import InferenceSettings

if TYPE_CHECKING:
    from collections.abc import Callable


def torch_engine(bundle: Bundle, precision: Precision) -> Engine:
    from fetalmlops.platform.engines.torch import TorchEngine

    return TorchEngine(bundle, precision=precision)


ENGINES: dict[str, Callable[[Bundle, Precision], Engine]] = {
    "openvino": lambda bundle, precision: OpenVinoEngine(bundle, precision=precision),
    "several": lambda bundle, precision: SeveralEngines(lambda: OpenVinoEngine(bundle, precision=precision), 2),
    "torch": torch_engine,
}
NO_BF16 = pytest.mark.skipif(not supports_bf16(), reason="this CPU has no bf16")
PRECISIONS = [
    Precision.F32,
    pytest.param(Precision.BF16, marks=NO_BF16),
    pytest.param(Precision.INT8, marks=pytest.mark.torch),
]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(bundled_files())


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(make, marks=pytest.mark.torch if make is torch_engine else (), id=name)
        for name, make in ENGINES.items()
    ],
)
def build(request: pytest.FixtureRequest) -> Callable[[Bundle, Precision], Engine]:
    return request.param


@pytest.fixture(scope="module", params=PRECISIONS, ids=str)
def served(request: pytest.FixtureRequest, bundle: Bundle) -> tuple[Bundle, Precision]:
    """The bundle with one precision; int8 is made here, since the packaged one may lack it."""
    if request.param is not Precision.INT8:
        return bundle, request.param
    pytest.importorskip("onnx", reason="quantising needs the train extra")
    from fetalmlops.training.quantising import quantise

    batch = prepare(bundle.reference.frames, bundle.manifest.input).batch
    variants = {**bundle.manifest.variants, Precision.INT8: Variant(file="model-int8.onnx", tolerance=0.1)}
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    contents["model-int8.onnx"] = quantise(bundle.network(Precision.F32), [batch])
    manifest = msgspec.structs.replace(bundle.manifest, variants=variants)
    return load_bundle(seal_bundle(manifest, contents)), Precision.INT8


@pytest.fixture(scope="module")
def engine(build: Callable[[Bundle, Precision], Engine], served: tuple[Bundle, Precision]) -> Engine:
    if build is torch_engine and served[1] is Precision.INT8:
        with pytest.raises(SettingsError, match=r"got int8; set inference\.precision"):
            build(*served)
        pytest.skip("refused, as it says")
    return build(*served)


@pytest.fixture(scope="module")
def batch(bundle: Bundle) -> np.ndarray:
    return prepare(bundle.reference.frames, bundle.manifest.input).batch


def test_it_reproduces_the_reference(engine: Engine, served: tuple[Bundle, Precision]) -> None:
    bundle, precision = served
    assert engine.precision is precision
    assert check_engine(bundle, engine) <= bundle.manifest.variants[precision].tolerance


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
    manifest = msgspec.structs.replace(
        bundle.manifest, variants={Precision.F32: bundle.manifest.variants[Precision.F32]}
    )
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    with pytest.raises(ContractError, match=r"this bundle has \(f32\), got int8"):
        build(load_bundle(seal_bundle(manifest, contents)), Precision.INT8)


@pytest.mark.parametrize("network", [b"", b"not a network", None], ids=["empty", "garbage", "cut off"])
def test_a_broken_network_is_refused(
    build: Callable[[Bundle, Precision], Engine], bundle: Bundle, network: bytes | None
) -> None:
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    contents["model.onnx"] = contents["model.onnx"][:5000] if network is None else network
    with pytest.raises(ContractError):
        build(load_bundle(seal_bundle(bundle.manifest, contents)), Precision.F32)


@pytest.mark.torch
@pytest.mark.parametrize("name", PACKAGED)
@pytest.mark.parametrize("precision", [Precision.F32, pytest.param(Precision.BF16, marks=NO_BF16)], ids=str)
def test_torch_and_openvino_agree(name: str, precision: Precision) -> None:
    bundle = load_bundle(packaged_bundle(name))
    engines = [torch_engine(bundle, precision), OpenVinoEngine(bundle, precision=precision)]
    batch = prepare(bundle.reference.frames, bundle.manifest.input).batch
    first, second = (engine.infer(batch) for engine in engines)
    for each in engines:
        check_engine(bundle, each)
    share = 1e-4 if precision is Precision.F32 else 0.1
    for output in OUTPUT_NAMES:
        found, expected = getattr(first, output), getattr(second, output)
        np.testing.assert_allclose(found, expected, atol=share * np.abs(expected).max(), err_msg=output)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "efficientnet_lite0", "densenet169"])
def test_torch_and_openvino_agree_on_what_recipes_make(name: str, bundle: Bundle) -> None:
    import torch

    from fetalmlops.training.export import export_onnx
    from fetalmlops.training.networks import make_network
    from fetalmlops.training.recipe import NetworkEntry

    torch.manual_seed(0)
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    contents["model.onnx"] = export_onnx(make_network(NetworkEntry(name=name)).eval(), 64, 96)
    spec = msgspec.structs.replace(bundle.manifest.input, rows=64, columns=96)
    other = load_bundle(seal_bundle(msgspec.structs.replace(bundle.manifest, input=spec), contents))
    batch = np.random.default_rng(0).normal(size=(3, 64, 96)).astype(np.float32)
    first = torch_engine(other, Precision.F32).infer(batch)
    second = OpenVinoEngine(other, precision=Precision.F32).infer(batch)
    for output in OUTPUT_NAMES:
        found, expected = getattr(first, output), getattr(second, output)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), err_msg=output)


@pytest.mark.torch
def test_torch_names_its_device(bundle: Bundle) -> None:
    assert torch_engine(bundle, Precision.F32).name.endswith(" cpu")


@pytest.mark.torch
def test_a_gpu_that_is_not_there_is_refused(bundle: Bundle) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SettingsError, match=r"Expected a GPU.*got none; see nvidia-smi, or set cpu"):
        make_engine(bundle, InferenceSettings(engine="torch", device="cuda"))


def test_openvino_is_refused_a_gpu(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match=r"set inference\.engine to torch"):
        make_engine(bundle, InferenceSettings(device="cuda"))


@pytest.mark.torch
def test_an_operator_that_torch_does_not_know_is_named(bundle: Bundle) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(bundle.network(Precision.F32))
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Softsign"
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    contents["model.onnx"] = model.SerializeToString()
    with pytest.raises(ContractError, match="got also Softsign; serve the bundle by openvino"):
        torch_engine(load_bundle(seal_bundle(bundle.manifest, contents)), Precision.F32)


def test_torch_that_is_not_installed_names_its_extra(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fetalmlops.platform.engines.torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "fetalmlops.platform.engines.operators", None)
    with pytest.raises(SettingsError, match=r"install the extra: pip install 'fetalmlops\[torch\]'"):
        make_engine(bundle, InferenceSettings(engine="torch"))
