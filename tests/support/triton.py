"""Asks a server of the Open Inference Protocol by Triton's own client, in a process of its own: both register the same names.

``python triton.py TARGET MODEL VERSION FRAMES.npy`` prints what it was told as JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def status(call: object, *arguments: object, **options: object) -> str:
    try:
        call(*arguments, **options)  # type: ignore[operator]
    except InferenceServerException as error:
        return str(error.status())
    return "OK"


def main(target: str, model: str, version: str, place: str) -> None:
    frames = np.load(place)[:, None]
    client = triton.InferenceServerClient(target)
    tensor = triton.InferInput("frames", list(frames.shape), "FP32")
    tensor.set_data_from_numpy(frames)
    answer = client.infer(model, [tensor], model_version=version, request_id="7")
    some = client.infer(model, [tensor], outputs=[triton.InferRequestedOutput("logits")])
    metadata = client.get_model_metadata(model, as_json=True)
    names = [each["name"] for each in metadata["outputs"]]
    small = triton.InferInput("frames", [1, 1, 8, 8], "FP32")
    small.set_data_from_numpy(np.zeros((1, 1, 8, 8), np.float32))
    double = triton.InferInput("frames", list(frames.shape), "FP64")
    double.set_data_from_numpy(frames.astype(np.float64))
    told = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model, version),
        "other_ready": [client.is_model_ready("other"), client.is_model_ready(model, "0.0.1")],
        "server": client.get_server_metadata(as_json=True),
        "model": metadata,
        "outputs": {name: answer.as_numpy(name).tolist() for name in names},
        "some": [each.name for each in some.get_response().outputs],
        "id": answer.get_response().id,
        "version": answer.get_response().model_version,
        "statuses": {
            "other model": status(client.infer, "other", [tensor]),
            "other version": status(client.infer, model, [tensor], model_version="0.0.1"),
            "other model's metadata": status(client.get_model_metadata, "other"),
            "other size": status(client.infer, model, [small]),
            "other type": status(client.infer, model, [double]),
            "other output": status(client.infer, model, [tensor], outputs=[triton.InferRequestedOutput("nothing")]),
            "classes": status(client.infer, model, [tensor], outputs=[triton.InferRequestedOutput("logits", 3)]),
        },
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
