"""What an engine is: it runs the network of a bundle, nothing more.

Networks have a convolutional trunk, global average pooling and linear heads. Because pooling and the head are both linear,
the head can run before the pooling: its maps are the class-activation maps (Zhou et al., CVPR 2016), their means the
logits, and both come from one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.models.manifest import Precision

__all__ = ["INPUT_NAME", "OUTPUT_NAMES", "Engine", "EngineOutput", "absent_output", "batch_parts", "join_outputs"]

INPUT_NAME: Final = "frames"
"""Name of the network's input, ``float32`` of [frames, 1, rows, columns]."""

OUTPUT_NAMES: Final = ("logits", "brain_logits", "embedding", "features", "maps")
"""Names of the network's outputs, the fields of `EngineOutput`; a bundle may lack all but the first."""


@dataclass(frozen=True, eq=False)
class EngineOutput:
    """What the network says of a batch; ``float32`` all.

    What a bundle's network does not give (see ``outputs`` of its manifest) has length 0 along its second axis.

    Parameters
    ----------
    logits
        Of the planes, [frames, planes].
    brain_logits
        Of the brain sub-planes, [frames, brain planes].
    embedding
        Pooled features of the last block, [frames, length].
    features
        Pooled features of the last two blocks, [frames, features], for the out-of-scope score.
    maps
        Class-activation maps of the planes, [frames, planes, map rows, map columns]; their means are the logits.
    """

    logits: NDArray[np.float32]
    brain_logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    features: NDArray[np.float32]
    maps: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.logits)

    def part(self, start: int, stop: int) -> EngineOutput:
        """Return the outputs on the frames from `start` up to, not including, `stop`."""
        return EngineOutput(*(getattr(self, name)[start:stop] for name in OUTPUT_NAMES))


class Engine(Protocol):
    """Runs one bundle's network in one precision. Calls may come from any thread, one at a time."""

    @property
    def name(self) -> str:
        """Engine and version, such as ``openvino 2026.4.1``."""

    @property
    def precision(self) -> Precision:
        """Arithmetic it runs in."""

    def infer(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run the network.

        Parameters
        ----------
        batch
            Prepared frames, ``float32`` of [frames, rows, columns], at least one.

        Returns
        -------
        EngineOutput
            Arrays that belong to the caller; each frame's output depends on that frame alone.
        """


def absent_output(name: str, frames: int) -> NDArray[np.float32]:
    """Return what stands for the output `name` of `frames` frames where the network does not give it: no numbers.

    Examples
    --------
    >>> absent_output("maps", 2).shape
    (2, 0, 0, 0)
    """
    return np.empty((frames, 0, 0, 0) if name == "maps" else (frames, 0), np.float32)


def batch_parts(frames: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Cut a batch into runs of the given sizes, the largest first; return where each begins and ends.

    Parameters
    ----------
    frames
        Frames of the batch.
    sizes
        Sizes, falling; the last is 1.

    Examples
    --------
    >>> batch_parts(11, (8, 4, 2, 1))
    [(0, 8), (8, 10), (10, 11)]
    """
    parts, start = [], 0
    for size in sizes:
        while frames - start >= size:
            parts.append((start, start + size))
            start += size
    return parts


def join_outputs(outputs: Sequence[EngineOutput]) -> EngineOutput:
    """Return batches joined in order."""
    if len(outputs) == 1:
        return outputs[0]
    return EngineOutput(*(np.concatenate([getattr(output, name) for output in outputs]) for name in OUTPUT_NAMES))
