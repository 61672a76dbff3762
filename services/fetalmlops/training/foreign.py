"""Networks of timm with weights of others, as ONNX."""

from __future__ import annotations

import io
import warnings

import timm
import torch
from safetensors.torch import load

from fetalmlops.domain.errors import SettingsError

__all__ = ["export_timm"]


def export_timm(architecture: str, weights: bytes, classes: int, size: int) -> bytes:
    """Return a network of timm with given weights as ONNX, its number of images free.

    Parameters
    ----------
    architecture
        Its name in timm.
    weights
        Its state dict as safetensors.
    classes
        Number of classes.
    size
        Rows and columns of its input.

    Raises
    ------
    SettingsError
        If timm has no such network, or the weights are another's.
    """
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=classes)
        network.load_state_dict(load(weights))
    except Exception as error:  # noqa: BLE001 - timm, torch and safetensors raise what they like
        msg = f"Expected a network of timm and its weights for {classes} classes, got others ({type(error).__name__})"
        raise SettingsError(msg) from None
    network.eval()
    image = torch.zeros(1, network.conv_stem.in_channels if hasattr(network, "conv_stem") else 3, size, size)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image,), file, dynamo=False, input_names=["input"], output_names=["logits"],
            dynamic_axes={"input": {0: "images"}, "logits": {0: "images"}}, opset_version=17,
        )  # fmt: skip
    return file.getvalue()
