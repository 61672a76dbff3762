"""The peer of ``rest.py``: a JPEG file to plane probabilities by LitServe, run in an environment of its own.

It decodes, crops to what is not black, resizes, standardises and infers by the same network and engine options. It does less:
no pipeline of steps, no figures of quality, no out-of-scope score, no decision, no limits, and it decodes in the process that
serves. Its requests are JSON with the file in base64, as its manual has it; binary bodies it does not take.
``python benchmarks/_litserve_files.py PORT NETWORK WORKERS BATCH FAST``
"""

from __future__ import annotations

import base64
import sys

import cv2
import litserve
import numpy as np
import openvino
import simplejpeg
from openvino import properties
from openvino.properties import hint

ROWS, COLUMNS, BLACK = 128, 160, 8


class Files(litserve.LitAPI):
    """One file a request."""

    network = ""

    def setup(self, device: str) -> None:
        """Compile the network for one thread."""
        del device
        cv2.setNumThreads(1)
        options = {
            hint.performance_mode(): hint.PerformanceMode.LATENCY,
            hint.inference_precision(): openvino.Type.f32,
            properties.num_streams(): 1,
            properties.inference_num_threads(): 1,
            hint.enable_cpu_pinning(): False,
        }
        compiled = openvino.Core().compile_model(self.network, "CPU", options)
        self.request = compiled.create_infer_request()
        self.input, self.logits = compiled.input(0), compiled.output("logits")

    def decode_request(self, request: dict) -> np.ndarray:
        """Return the network's input of a file."""
        grey = simplejpeg.decode_jpeg(base64.b64decode(request["image"]), "GRAY")[:, :, 0]
        left, top, width, height = cv2.boundingRect((grey > BLACK).astype(np.uint8))
        content = grey[top : top + height, left : left + width]
        scale = min(ROWS / height, COLUMNS / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        content = cv2.resize(content, size, interpolation=cv2.INTER_AREA)
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(content))
        batch = np.full((ROWS, COLUMNS), -mean / deviation, np.float32)
        y, x = (ROWS - size[1]) // 2, (COLUMNS - size[0]) // 2
        batch[y : y + size[1], x : x + size[0]] = (content - np.float32(mean)) / np.float32(deviation)
        return batch

    def batch(self, inputs: list) -> np.ndarray:
        """Stack files that came together."""
        return np.stack(inputs)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Run the network."""
        frames = batch[None, None] if batch.ndim == 2 else batch[:, None]
        logits = self.request.infer({self.input: np.ascontiguousarray(frames)}, share_inputs=True)[self.logits]
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def unbatch(self, output: np.ndarray) -> list:
        """Return one row a file."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict:
        """Return the probabilities."""
        return {"probabilities": output.ravel().tolist()}


def main(port: str, network: str, workers: str, batch: str, fast: str) -> None:
    """Serve."""
    api = Files(max_batch_size=int(batch)) if int(batch) > 1 else Files()
    api.network = network
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=int(workers), fast_queue=fast == "fast"
    )
    server.run(host="127.0.0.1", port=int(port), log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
