"""Pictures of results for people: whose is drawn, and where it is kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import numpy as np

from fetalmlops.domain.contracts.planes import Decision
from fetalmlops.platform.inference.overlays import OVERLAY_MEDIA_TYPE, draw_overlay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.events import ObjectRef
    from fetalmlops.platform.inference.client import Classification
    from fetalmlops.platform.objects import ObjectStore

__all__ = ["Overlays"]


class Overlays:
    """Draws and keeps pictures by a policy.

    Parameters
    ----------
    objects
        Store of the clean zone.
    policy
        As the setting ``classifier.overlays``.
    """

    def __init__(self, objects: ObjectStore, policy: Literal["none", "review", "all"] = "none") -> None:
        self._objects = objects
        self._policy = policy

    async def keep(
        self, place: str, found: Classification, chunks: Sequence[NDArray[np.uint8]], frame_numbers: Sequence[int]
    ) -> ObjectRef | None:
        """Draw and keep the picture of a result, where the policy asks for it and there is a map.

        Parameters
        ----------
        place
            Arrival hour, and identity of the result.
        found
            The result.
        chunks, frame_numbers
            The frames that it was made from, and their DICOM numbers.
        """
        if found.explanation is None or not self._asks_for(found.decision):
            return None
        frame = np.concatenate(chunks)[[*frame_numbers].index(found.best_frame)]
        picture = await asyncio.to_thread(draw_overlay, found, frame)
        return await asyncio.to_thread(self._objects.put, f"clean/overlays/{place}.png", picture, OVERLAY_MEDIA_TYPE)

    def _asks_for(self, decision: Decision) -> bool:
        return self._policy == "all" or (self._policy == "review" and decision is not Decision.ACCEPT)
