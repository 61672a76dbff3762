"""LitServe with the network of a bundle, in OpenVINO: the peer that serving is measured against; runs in ``.venv/peers``.

``python benchmarks/_litserve_server.py --port P --model NETWORK.onnx --precision bf16 --workers N [--batch 8]``

``POST /predict`` takes the raw bytes of one grey frame, ``uint8`` of 224 x 224 in C order, as ``application/octet-stream``, and
answers with JSON: ``{"probabilities": [...]}``. ``GET /health`` answers 200 once the workers are ready. It resizes to the
network's input and standardises, as ours does, and leaves out what ours does beside: digest, screening, out-of-scope score,
decision. Each worker has one engine thread; batches gather what waits; frames go to the workers over its fast queue, and there
are as many HTTP processes as workers.
"""

# Annotations are looked at while it runs, so they are no strings here.

import argparse
from typing import Annotated, Any

import cv2
import litserve
import numpy as np
import openvino
from fastapi import Body
from openvino import properties
from openvino.properties import hint

SIDE = 224
TYPES = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16, "int8": openvino.Type.f32}


class Planes(litserve.LitAPI):
    """One worker: an engine in one thread."""

    def __init__(self, model: str, precision: str, **options: Any) -> None:
        super().__init__(**options)
        self._model, self._precision = model, precision

    def setup(self, device: str) -> None:  # noqa: ARG002 - theirs
        """Compile the network as ours does."""
        cv2.setNumThreads(1)
        core = openvino.Core()
        options = {
            hint.performance_mode(): hint.PerformanceMode.LATENCY,
            hint.inference_precision(): TYPES[self._precision],
            properties.num_streams(): 1,
            properties.inference_num_threads(): 1,
            hint.enable_cpu_pinning(): False,
        }
        compiled = core.compile_model(core.read_model(self._model), "CPU", options)
        self._request = compiled.create_infer_request()
        self._input, self._logits = compiled.input(0), compiled.output("logits")
        _, _, rows, columns = compiled.input(0).partial_shape
        self._size = (columns.get_length(), rows.get_length())
        for count in (1, 2, 4, self.max_batch_size):
            self._request.infer({self._input: np.zeros((count, 1, *reversed(self._size)), np.float32)})

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> np.ndarray:
        """Return the prepared frame."""
        frame = np.frombuffer(request, np.uint8).reshape(SIDE, SIDE)
        frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_LINEAR)
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(frame))
        return ((frame - np.float32(mean)) / np.float32(max(deviation, 1e-3)))[None]

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Return frames as one array."""
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities; one frame comes alone where batches are of one."""
        frames = x if x.ndim == 4 else x[None]
        logits = self._request.infer({self._input: frames}, share_inputs=True)[self._logits]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found = powers / powers.sum(axis=1, keepdims=True)
        return found if x.ndim == 4 else found[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Return the rows."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        """Return what becomes JSON."""
        return {"probabilities": output.tolist()}


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--precision", choices=sorted(TYPES), required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    api = Planes(given.model, given.precision, max_batch_size=given.batch, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=given.workers, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=given.port,
        num_api_servers=given.workers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
