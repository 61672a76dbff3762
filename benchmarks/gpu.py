"""Images per second and joules per image on a GPU: the torch engine in bf16 against torch in eager mode, by size of batch.

Run: ``python benchmarks/gpu.py [seconds]``; needs the ``train`` extra and a CUDA GPU, and says so where there is none;
``python benchmarks/gpu.py 0.2 cpu`` rehearses it without one. From frames in memory to outputs in memory, every side in turn,
the best of three rounds. Joules are those of NVML's counter of the whole GPU, its idle power with them. First the engine is
compared with OpenVINO in f32 on the same frames: the largest difference of a plane's probability.
"""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

import _networks
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.platform.engines.openvino import OpenVinoEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NETWORKS = (_networks.PACKAGED, "fetal-planes-mobilenetv3")
BATCHES, ROUNDS = (1, 8, 64), 3


def joules_counter(device: str) -> Callable[[], float]:
    """Return what reads the GPU's energy counter in joules; it reads nan where there is none."""
    if device != "cuda":
        return lambda: float("nan")
    import pynvml
    import torch

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def sides(network: _networks.Network, device: str) -> dict[str, Callable[[NDArray[np.float32]], object]]:
    """Return what is timed: each takes frames, [frames, rows, columns]."""
    import copy

    import torch
    from torch.backends import cudnn

    from fetalmlops.platform.engines.torch import TorchEngine

    def eager(kind: torch.dtype) -> Callable[[NDArray[np.float32]], object]:
        copied = copy.deepcopy(network.torch).to(device, memory_format=torch.channels_last)

        def as_it_comes() -> Any:
            # The engine in f32 turns TF32 off for the whole process; torch has it on for convolutions.
            return (
                torch.autocast(device, kind) if kind is torch.bfloat16 else cudnn.flags(enabled=True, allow_tf32=True)
            )

        def run(batch: NDArray[np.float32]) -> object:
            tensor = torch.from_numpy(batch[:, None]).to(device)
            with torch.inference_mode(), as_it_comes():
                return [output.float().cpu().numpy() for output in copied(tensor)]

        return run

    engine = TorchEngine(network.bundle, device=device, precision=Precision.BF16)
    return {"eager f32": eager(torch.float32), "eager bf16": eager(torch.bfloat16), "engine bf16": engine.infer}


def agreement(network: _networks.Network, device: str, batch: NDArray[np.float32]) -> dict[str, float]:
    """Return the largest difference of a plane's probability from OpenVINO's in f32, by precision."""
    from fetalmlops.platform.engines.torch import TorchEngine

    temperature = network.bundle.manifest.calibration.temperature
    expected = softmax(OpenVinoEngine(network.bundle, precision=Precision.F32).infer(batch).logits, temperature)
    found = {
        each: softmax(TorchEngine(network.bundle, device=device, precision=each).infer(batch).logits, temperature)
        for each in (Precision.F32, Precision.BF16)
    }
    return {str(each): float(np.abs(values - expected).max()) for each, values in found.items()}


def rate(run: Callable[[Any], object], batch: Any, seconds: float, joules: Callable[[], float]) -> tuple[float, float]:
    """Return images per second and joules per image; each run ends with its outputs in memory, so nothing is left in flight."""
    images, energy, started = 0, joules(), time.perf_counter()
    while (took := time.perf_counter() - started) < seconds or not images:
        run(batch)
        images += len(batch)
    return images / took, (joules() - energy) / images


def compare(name: str, device: str, seconds: float) -> None:
    """Print the rows of one network."""
    network, joules = _networks.find_network(name), joules_counter(device)
    spec = network.bundle.manifest.input
    frames = _networks.frames(max(BATCHES), spec.rows, spec.columns)
    differences = ", ".join(f"{each} {value:.1e}" for each, value in agreement(network, device, frames).items())
    print(f"\n{name}, {spec.rows} x {spec.columns}, {network.weights}; from OpenVINO f32: {differences}")
    timed = sides(network, device)
    for size in BATCHES:
        batch, best = frames[:size], dict.fromkeys(timed, (0.0, float("nan")))
        for run in timed.values():
            run(batch)  # warm
        for _ in range(ROUNDS):
            for side, run in timed.items():
                best[side] = max(best[side], rate(run, batch, seconds, joules))
        for side, (images, joule) in best.items():
            ratio = images / best["eager f32"][0]
            print(f"{size:>5}  {side:14}{images:>12.0f}{ratio:>8.2f}{joule:>12.4f}")


def main(seconds: float, device: str) -> None:
    """Print the tables."""
    if find_spec("torch") is None or find_spec("onnx") is None:
        print("left out: needs the train extra (make .venv/.stamps/train)")
        return
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        print("left out: needs a CUDA GPU, and this machine has none that torch can use")
        return
    print(torch.cuda.get_device_name() if device == "cuda" else f"rehearsal on {_networks.machine()}")
    print(f"batch  {'side':14}{'images/s':>12}{'ratio':>8}{'J an image':>12}")
    for name in NETWORKS:
        compare(name, device, seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0, sys.argv[2] if len(sys.argv) > 2 else "cuda")
