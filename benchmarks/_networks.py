"""Bundles that benchmarks of engines run: the packaged one, and recipes' networks of random weights in a bundle like it."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np

from fetalmlops.domain.models.bundle import Bundle, Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Manifest, Precision, Variant
from fetalmlops.domain.models.ood import fit_ood
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.inference.bundles import FETAL_PLANES, bundled_files, packaged_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import nn

PACKAGED = "fetal-planes (packaged)"
"""Name of the packaged bundle among the networks; the others are recipes."""

_PRECISIONS = (Precision.F32, Precision.BF16, Precision.INT8)
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_WARMING, _FITTED, _FIRST_RUNS = 20, 64, 2


@dataclass(frozen=True)
class Network:
    """A network in torch and as a bundle."""

    torch: nn.Module
    bundle: Bundle
    weights: str


def interleaved(
    timed: Mapping[str, Callable[[], object]], repetitions: int, *, images: int = 1
) -> tuple[dict[str, float], dict[str, float]]:
    """Run every side in turn, so that what disturbs one disturbs all.

    Parameters
    ----------
    timed
        What is run, by side.
    repetitions
        How often each side counts; the first runs do not.
    images
        How many images each run is of.

    Returns
    -------
    tuple[dict[str, float], dict[str, float]]
        Medians of each side, in ms an image: by the wall, and of the processor.
    """
    wall: dict[str, list[float]] = {side: [] for side in timed}
    processor: dict[str, list[float]] = {side: [] for side in timed}
    for repetition in range(repetitions + _FIRST_RUNS):
        for side, run in timed.items():
            started, used = time.perf_counter(), time.process_time()
            run()
            if repetition >= _FIRST_RUNS:
                wall[side].append((time.perf_counter() - started) * 1e3 / images)
                processor[side].append((time.process_time() - used) * 1e3 / images)
    return _medians(wall), _medians(processor)


def _medians(figures: Mapping[str, list[float]]) -> dict[str, float]:
    return {side: statistics.median(values) for side, values in figures.items()}


def machine() -> str:
    """Return the processor, and of its instruction sets those that matter here."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = facts.get("flags", "").split()
    return f"{facts.get('model name', platform.machine()).strip()} ({', '.join(f for f in _FLAGS if f in flags)})"


def frames(count: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Return smooth noise of mean 0 and standard deviation 1, [count, rows, columns]."""
    noise = np.random.default_rng(0).normal(size=(count, rows, columns)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(each, (0, 0), 3) for each in noise])
    return np.asarray(smooth / smooth.std(), np.float32)


def find_network(name: str) -> Network:
    """Return the packaged bundle by its name, or a recipe's network: random weights, all precisions."""
    import torch

    torch.manual_seed(0)
    return _packaged() if name == PACKAGED else _of_recipe(name)


def _packaged() -> Network:
    from fetalmlops.training.sononet.export import read_weights
    from fetalmlops.training.sononet.network import SonoNetPlanes

    bundle, network = load_bundle(packaged_bundle(FETAL_PLANES)), SonoNetPlanes()
    read_weights(network, bundle.network(Precision.F32))
    return Network(network.eval(), bundle, "its own weights")


def _of_recipe(name: str) -> Network:
    import torch

    from fetalmlops.training.export import export_onnx
    from fetalmlops.training.networks import make_network
    from fetalmlops.training.quantising import quantise
    from fetalmlops.training.recipe import find_recipe

    recipe = find_recipe(name)
    batch = frames(8, recipe.input.rows, recipe.input.columns)
    network = make_network(recipe.network).train()
    with torch.no_grad():
        for _ in range(_WARMING):
            network(torch.from_numpy(batch[:, None, ::4, ::4]))  # so that normalisations know their inputs
    onnx = export_onnx(network.eval(), recipe.input.rows, recipe.input.columns)
    manifest = msgspec.structs.replace(load_bundle(bundled_files()).manifest, input=recipe.input, weights="")
    return Network(network, _bundle(manifest, onnx, quantise(onnx, [batch])), "random weights")


def _bundle(manifest: Manifest, onnx: bytes, int8: bytes) -> Bundle:
    """Return a bundle whose reference outputs and out-of-scope reference are those of the network."""
    files = {name: data for name, data in bundled_files().items() if name != MANIFEST_NAME}
    del files["weights.safetensors"]
    files |= {"model.onnx": onnx, "model-int8.onnx": int8}
    names = {each: "model-int8.onnx" if each is Precision.INT8 else "model.onnx" for each in _PRECISIONS}
    variants = {each: Variant(file=name, tolerance=1.0) for each, name in names.items()}
    draft = load_bundle(seal_bundle(msgspec.structs.replace(manifest, variants=variants), files))
    spec, engine = manifest.input, OpenVinoEngine(draft, precision=Precision.F32)
    features = engine.infer(frames(_FITTED, spec.rows, spec.columns)).features
    classes = np.arange(_FITTED) % len(manifest.planes)
    output = engine.infer(prepare(draft.reference.frames, spec).batch)
    reference = Reference(
        draft.reference.frames,
        softmax(output.logits, manifest.calibration.temperature).astype(np.float32),
        softmax(output.brain_logits, manifest.calibration.brain_temperature).astype(np.float32),
    )
    files |= {
        "ood.safetensors": fit_ood(features, classes, features).to_bytes(),
        "reference.safetensors": reference.to_bytes(),
    }
    length = output.embedding.shape[1]
    return load_bundle(
        seal_bundle(msgspec.structs.replace(manifest, variants=variants, embedding_length=length), files)
    )


def without_maps(bundle: Bundle, precision: Precision) -> OpenVinoEngine:
    """Return an engine that gives the logits alone: the inference without explanation and out-of-scope score."""
    bare = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, outputs=["logits"]))

    def alter(model: Any) -> None:
        for result in model.get_results():
            if "logits" not in result.input_value(0).get_names():
                model.remove_result(result)

    return OpenVinoEngine(bare, threads=1, precision=precision, alter=alter)
