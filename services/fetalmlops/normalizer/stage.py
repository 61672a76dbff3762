"""From a clean instance to normalised frames."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.events import FramesNormalized, FramesRef, InstanceDeidentified, PipelineFrames
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.sop_classes import has_image
from fetalmlops.domain.contracts.topics import FRAMES_NORMALIZED, INSTANCE_DEIDENTIFIED
from fetalmlops.domain.imaging.frames import FRAMES_MEDIA_TYPE
from fetalmlops.domain.imaging.pipelines import find_pipeline
from fetalmlops.platform.streams import Delivery, Emission, Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fetalmlops.domain.imaging.frames import NormalizedObject
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.sandbox.parent import Sandbox

__all__ = ["Normalizer"]

_NAME = "normalizer"


class Normalizer:
    """The normalisation stage.

    Parameters
    ----------
    objects
        Store of the clean zone.
    sandbox
        Child that decodes, under limits.
    pipelines
        Names of the normalisations, at least one; their digests are part of every event's identity. The first one's frames
        are the event's own, those of further ones stand beside them.
    """

    def __init__(self, objects: ObjectStore, sandbox: Sandbox[NormalizedObject], pipelines: Iterable[str]) -> None:
        self._objects = objects
        self._sandbox = sandbox
        self._digests = {name: find_pipeline(name).digest for name in pipelines}

    @property
    def stage(self) -> Stage[InstanceDeidentified]:
        """The stage for `fetalmlops.platform.streams.process`."""
        return Stage(
            name=_NAME,
            source=INSTANCE_DEIDENTIFIED,
            event=InstanceDeidentified,
            handle=self.handle,
            size=lambda event: event.object.size,
        )

    async def handle(self, delivery: Delivery[InstanceDeidentified]) -> Outcome:
        """Normalise an instance; one of a SOP class without an image passes on without frames."""
        event = delivery.event
        identity = event_id(
            event.content_id,
            _NAME,
            [
                event.deidentification.rules_digest,
                event.deidentification.profile,
                event.object.sha256,
                *self._digests.values(),
            ],
        )
        made = await self._normalized(event, identity) if has_image(event.sop_class_uid) else []
        normalized = FramesNormalized(
            content_id=event.content_id,
            revision=event.revision,
            origin=event.origin,
            context=event.context,
            sop_class_uid=event.sop_class_uid,
            frames=made[0].frames if made else None,
            pipeline_digest=next(iter(self._digests.values())),
            others=made[1:],
            deidentified_sha256=event.object.sha256,
            rules_digest=event.deidentification.rules_digest,
            profile=event.deidentification.profile,
        )
        emission = Emission(
            topic=FRAMES_NORMALIZED,
            key=event.context.instance,
            id=identity,
            event=normalized,
            subject=event.context.instance,
        )
        return Outcome(emissions=(emission,))

    async def _normalized(self, event: InstanceDeidentified, identity: str) -> list[PipelineFrames]:
        place = f"clean/frames/{event.origin.partition('/')[0]}/{identity}"
        made = []
        async with self._objects.lend(event.object) as file:
            for number, (name, digest) in enumerate(self._digests.items()):
                result = await self._sandbox.call(str(file), None, name)
                frames = await self._stored(result, f"{place}.{number}" if number else place)
                made.append(PipelineFrames(pipeline_digest=digest, frames=frames))
        return made

    async def _stored(self, result: NormalizedObject, uri: str) -> FramesRef:
        ref = await asyncio.to_thread(self._objects.put, uri, result.data, FRAMES_MEDIA_TYPE)
        return FramesRef(
            object=ref,
            total_frames=result.total_frames,
            frame_numbers=result.frame_numbers,
            rows=result.rows,
            columns=result.columns,
            spacing=result.spacing,
            quality=result.quality,
            mode=result.mode,
            sector=result.sector,
        )
