"""Milliseconds of an image through each engine and precision, against torch in eager mode, f32.

Run: ``python benchmarks/engines.py [repetitions]``; needs the ``train`` extra. Batches of 8 at the network's input, one thread
each, every side in turn in this process; medians of wall time and of processor time, which tells more on a machine that is
shared. The ratios say how many times less processor time than torch as it comes, and than torch in its other memory layout,
channels last. The last column is what all outputs (logits of planes and brain sub-planes, embedding, features, maps) take over
the logits alone. The packaged bundle has its own weights and the precisions that passed its gates; the others have random
weights and every precision. Goals: the packaged bundle 2.5 in bf16 (4.5 in int8 if it has it), mobilenetv3 5 in its fastest
precision, outputs at most 1.1.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import _networks
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.platform.engines.openvino import OpenVinoEngine, can_run

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORKS = (_networks.PACKAGED, "fetal-planes-mobilenetv3", "fetal-planes")
BATCH = 8


def sides(network: _networks.Network) -> dict[str, Callable[[], object]]:
    """Return what is timed, torch's layouts first."""
    import copy

    import torch

    from fetalmlops.platform.engines.torch import TorchEngine

    torch.set_num_threads(1)
    bundle, spec = network.bundle, network.bundle.manifest.input
    batch = _networks.frames(BATCH, spec.rows, spec.columns)
    tensor = torch.from_numpy(batch[:, None])

    def eager(layout: torch.memory_format) -> Callable[[], object]:
        copied = copy.deepcopy(network.torch).to(memory_format=layout)

        def run() -> object:
            with torch.inference_mode():
                return copied(tensor.contiguous(memory_format=layout))

        return run

    timed = {"torch eager f32": eager(torch.contiguous_format), "channels last": eager(torch.channels_last)}
    for precision in bundle.manifest.variants:
        if can_run(precision):
            timed[f"openvino {precision}"] = _run(OpenVinoEngine(bundle, threads=1, precision=precision), batch)
            timed[f"logits {precision}"] = _run(_networks.without_maps(bundle, precision), batch)
        if precision is not Precision.INT8:
            timed[f"torch {precision}"] = _run(TorchEngine(bundle, threads=1, precision=precision), batch)
    return timed


def _run(engine: OpenVinoEngine, batch: object) -> Callable[[], object]:
    return lambda: engine.infer(batch)


def compare(name: str, repetitions: int) -> None:
    """Print the rows of one network."""
    network = _networks.find_network(name)
    timed = sides(network)
    wall_ms, used_ms = _networks.interleaved(timed, repetitions, images=BATCH)
    spec = network.bundle.manifest.input
    print(f"\n{name}, {spec.rows} x {spec.columns}, {network.weights}")
    for side in timed:
        if side.startswith("logits"):
            continue
        alone = used_ms.get(side.replace("openvino", "logits"), 0.0) if side.startswith("openvino") else 0.0
        ratios = "".join(f"{used_ms[peer] / used_ms[side]:>9.2f}" for peer in ("torch eager f32", "channels last"))
        over = f"{used_ms[side] / alone:>9.2f}" if alone else ""
        print(f"{side:18}{wall_ms[side]:>9.2f}{used_ms[side]:>9.2f}{ratios}{over}")


def main(repetitions: int) -> None:
    """Print the tables."""
    if find_spec("torch") is None or find_spec("onnx") is None:
        print("left out: needs the train extra (make .venv/.stamps/train)")
        return
    print(_networks.machine())
    print(f"{'ms an image':18}{'wall':>9}{'CPU':>9}{'ratio':>9}{'to last':>9}{'outputs':>9}")
    for name in NETWORKS:
        compare(name, repetitions)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
