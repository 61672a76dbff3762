"""Milliseconds from a DICOM file's bytes to a plane and its map on one core, against pydicom, DenseNet-169 and Grad-CAM.

Run: ``python benchmarks/files.py [repetitions]``; needs the ``train`` extra. The file is an ultrasound screen of 600 x 800 as
JPEG. Ours is what ``fetalmlops classify`` does with it: header, decoding, the sector found and cropped, quality, preparation,
the network with all outputs, probabilities, out-of-scope score, decision; and the map. The peer reads and decodes it by pydicom
as it comes, makes it grey, resizes it to 224 x 224 and runs DenseNet-169 in torch's eager mode with Grad-CAM of its likeliest
class. All are pinned to the same core and run in turn; medians of wall time and of processor time, and ratios of the latter.
The packaged bundle has its own weights, all other networks have random ones, which cost the same. Goals: the packaged bundle
20, mobilenetv3 50.
"""

from __future__ import annotations

import io
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pydicom

import _networks
from fetalmlops.domain.models.classify import explain
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.platform.engines.openvino import can_run
from fetalmlops.platform.inference.local import LocalModel
from normalize_frames import cases

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORKS = (_networks.PACKAGED, "fetal-planes-mobilenetv3")
PEER, SIDE = "pydicom, DenseNet-169 eager, Grad-CAM", 224


def ours(name: str, precision: Precision, data: bytes) -> Callable[[], object]:
    """Return our way from bytes to the result and its map."""
    model = LocalModel(_networks.find_network(name).bundle, precision=precision)

    def run() -> object:
        judged = model.judge_stream(io.BytesIO(data))
        return explain(model.bundle, judged.output, judged.result, *judged.normalized.frames.shape[1:])

    return run


def peer(data: bytes) -> Callable[[], object]:
    """Return the classical way."""
    import timm
    import torch

    torch.set_num_threads(1)
    network = timm.create_model("densenet169", pretrained=False, in_chans=1, num_classes=6).eval()

    def run() -> object:
        pixels = pydicom.dcmread(io.BytesIO(data)).pixel_array
        grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        batch = torch.from_numpy((grey.astype(np.float32) / 255)[None, None])
        activations = network.forward_features(batch)
        activations.retain_grad()
        logits = network.forward_head(activations)
        logits[0, logits.argmax()].backward()
        weights = activations.grad.mean(dim=(2, 3), keepdim=True)
        network.zero_grad(set_to_none=True)
        return cv2.resize(torch.relu((weights * activations).sum(dim=1))[0].detach().numpy(), (SIDE, SIDE))

    return run


def main(repetitions: int) -> None:
    """Print the table."""
    if find_spec("torch") is None or find_spec("timm") is None:
        print("left out: needs the train extra (make .venv/.stamps/train)")
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    data = cases()["JPEG YBR 4:2:2"]
    timed = {PEER: peer(data)}
    for name in NETWORKS:
        for precision in (Precision.F32, Precision.BF16):
            if can_run(precision):
                timed[f"{name}, {precision}"] = ours(name, precision, data)
    wall_ms, used_ms = _networks.interleaved(timed, repetitions)
    print(f"{_networks.machine()}\n{'ms a file':40}{'wall':>9}{'CPU':>9}{'ratio':>8}")
    for side, used in used_ms.items():
        print(f"{side:40}{wall_ms[side]:>9.1f}{used:>9.1f}{used_ms[PEER] / used:>8.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
