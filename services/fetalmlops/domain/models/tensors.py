"""Named arrays to bytes and back, as safetensors: a format that holds numbers and can run no code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["read_frames", "read_tensors", "write_tensors"]


def write_tensors(tensors: Mapping[str, ArrayLike]) -> bytes:
    """Return named arrays as safetensors of ``float32``; an array of ``uint8`` stays one."""
    return safetensors.save({name: _storable(np.asarray(tensor)) for name, tensor in tensors.items()})


def read_tensors(data: bytes, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Read the ``float32`` arrays `names`.

    Raises
    ------
    ContractError
        If the bytes are no safetensors, or an array is missing, of another type, or not finite.

    Examples
    --------
    >>> read_tensors(write_tensors({"a": [1.0, 2.0]}), ["a"])
    {'a': array([1., 2.], dtype=float32)}
    """
    tensors = _load(data, names)
    wrong = [name for name in names if tensors[name].dtype != np.float32 or not np.isfinite(tensors[name]).all()]
    if wrong:
        msg = (
            f"Expected finite float32 tensors {', '.join(names)}, got others for {', '.join(wrong)}; rebuild the bundle"
        )
        raise ContractError(msg, reason="bundle")
    return tensors


def read_frames(data: bytes, name: str) -> NDArray[np.uint8]:
    """Read the ``uint8`` array `name` of [frames, rows, columns].

    Raises
    ------
    ContractError
        If the bytes are no safetensors, or the array is missing, of another type or number of axes, or empty.
    """
    tensor = _load(data, [name])[name]
    if tensor.dtype != np.uint8 or tensor.ndim != 3 or tensor.size == 0:
        msg = f"Expected {name} as uint8 of [frames, rows, columns], got another tensor; rebuild the bundle"
        raise ContractError(msg, reason="bundle")
    return tensor


def _storable(tensor: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(tensor, np.uint8 if tensor.dtype == np.uint8 else np.float32)


def _load(data: bytes, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        tensors = safetensors.load(data)
        return {name: tensors[name] for name in names}
    except (SafetensorError, KeyError, ValueError):
        msg = f"Expected safetensors with {', '.join(names)}, got {len(data)} bytes that are not; rebuild the bundle"
        raise ContractError(msg, reason="bundle") from None
