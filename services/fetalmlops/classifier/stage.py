"""From normalised frames to one current result an instance and role."""

from __future__ import annotations

import asyncio
import io
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from fetalmlops.classifier import metrics
from fetalmlops.classifier.overlays import Overlays
from fetalmlops.domain.contracts.events import FramesNormalized, InstanceClassified, Lineage, Measured, PipelineFrames
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.planes import Decision, Role
from fetalmlops.domain.contracts.topics import FRAMES_NORMALIZED, INSTANCE_CLASSIFIED, INSTANCE_SHADOWED
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.frames import read_frames
from fetalmlops.domain.models.manifest import decode_manifest
from fetalmlops.platform.inference.channels import PIPELINE_REASON, ROLE_REASON
from fetalmlops.platform.streams import Delivery, Emission, Outcome, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.events import ObjectRef
    from fetalmlops.platform.claims import Claims
    from fetalmlops.platform.inference.client import Classification, InferenceClient
    from fetalmlops.platform.inference.open_inference import OpenInferenceClient
    from fetalmlops.platform.objects import ObjectStore

__all__ = ["Classifier"]

_NAME = "classifier"
_SHADOW = "shadow"
_NPY = "application/x-npy"
_KNOWN_S = 1.0
_NO_SHADOW = Outcome(verdict="no-shadow")


class _Known(NamedTuple):
    """Whether a shadow serves, and until when that may be believed, by the event loop's clock."""

    served: bool
    until: float


class Classifier:
    """The classification stage.

    Parameters
    ----------
    objects
        Store of the clean zone.
    inference
        Client of the inference service, or of a server that takes its place.
    claims
        Which contents have a result.
    overlays
        Whose map is drawn as a picture; default: nobody's.
    role
        Role of the model that is asked. A shadow only looks on: no instance's way ends with it, or depends on it.
    """

    def __init__(
        self,
        objects: ObjectStore,
        inference: InferenceClient | OpenInferenceClient,
        claims: Claims,
        *,
        overlays: Overlays | None = None,
        role: Role = Role.CHAMPION,
    ) -> None:
        self._objects = objects
        self._inference = inference
        self._claims = claims
        self._overlays = overlays or Overlays(objects)
        self._role = role
        self._looks_on = role is not Role.CHAMPION
        self._pipeline_digest = ""
        self._serves = _Known(served=False, until=0.0)

    @property
    def stage(self) -> Stage[FramesNormalized]:
        """The stage for `fetalmlops.platform.streams.process`."""
        return Stage(
            name=_SHADOW if self._looks_on else _NAME,
            source=FRAMES_NORMALIZED,
            event=FramesNormalized,
            handle=self._look_on if self._looks_on else self.handle,
            size=_size,
            looks_on=self._looks_on,
        )

    async def handle(self, delivery: Delivery[FramesNormalized]) -> Outcome:
        """Classify an instance, unless its content has a result already."""
        event, role = delivery.event, self._role
        if await self._claims.published(event.content_id, role):
            return Outcome(ends=not self._looks_on, verdict="repeated")
        result = await self._classified(event, role) if event.frames else _not_applicable(event, role)
        identity = _identity(event.content_id, result.lineage, role)
        claim = await self._claims.claim(event.content_id, role, identity)
        if claim.published:
            return Outcome(ends=not self._looks_on, verdict="repeated")
        emission = Emission(
            topic=INSTANCE_SHADOWED if self._looks_on else INSTANCE_CLASSIFIED,
            key=event.context.study,
            id=identity,
            event=msgspec.structs.replace(result, supersedes=claim.supersedes),
            subject=event.context.instance,
        )

        async def confirm() -> None:
            await self._claims.confirm(event.content_id, role, identity)
            if self._looks_on:
                metrics.SHADOW_RESULTS.labels(result.decision, result.plane or "").inc()
                return
            metrics.RESULTS.labels(result.decision, result.plane or "", event.context.scanner).inc()
            metrics.LATENCY_SECONDS.labels(event.context.lane).observe(result.measured.since_arrival_ms / 1000)
            if result.measured.energy_method:
                metrics.JOULES.labels(result.measured.energy_method).inc(result.measured.joules or 0.0)

        return Outcome(
            emissions=(emission,), ends=not self._looks_on, acknowledged=confirm, verdict=result.decision.value
        )

    async def _look_on(self, delivery: Delivery[FramesNormalized]) -> Outcome:
        """Let a shadow judge what a model can judge at all; where none serves, the event passes at no cost."""
        if not delivery.event.frames:
            return Outcome(verdict="no-image")
        if not await self._shadow_serves():
            return _NO_SHADOW
        try:
            return await self.handle(delivery)
        except PermanentError as error:
            if error.reason == ROLE_REASON:  # it ended just now
                return _NO_SHADOW
            raise

    async def _shadow_serves(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._serves.until:
            try:
                found = await self._inference.metadata(role=self._role)
                # Its frames are offered first, so that it need not refuse others.
                self._pipeline_digest = decode_manifest(found.manifest).pipeline.digest
                served = True
            except PermanentError:
                served = False
            self._serves = _Known(served, loop.time() + _KNOWN_S)
        return self._serves.served

    async def _asked(self, event: FramesNormalized) -> tuple[PipelineFrames, list[NDArray[np.uint8]], Classification]:
        """Have the frames classified that the serving bundle takes; raises its refusal if none of them is of its pipeline."""
        # What was taken last comes first: the bundle changes seldom.
        offers = sorted(_offers(event), key=lambda offer: offer.pipeline_digest != self._pipeline_digest)
        while True:
            offer = offers.pop(0)
            container = read_frames(await asyncio.to_thread(self._objects.get, offer.frames.object))
            chunks = [chunk.pixels for chunk in container.chunks()]
            try:
                found = await self._inference.classify(
                    chunks, offer.frames.frame_numbers, pipeline_digest=offer.pipeline_digest, role=self._role
                )
            except PermanentError as error:
                if error.reason != PIPELINE_REASON or not offers:
                    raise
            else:
                self._pipeline_digest = offer.pipeline_digest
                return offer, chunks, found

    async def _classified(self, event: FramesNormalized, role: Role) -> InstanceClassified:
        offer, chunks, found = await self._asked(event)
        model = found.model
        lineage = _lineage(
            event,
            offer,
            bundle=model.name,
            bundle_version=model.version,
            bundle_digest=model.bundle_digest,
            precision=model.precision,
            engine=model.engine,
            decision_digest=model.decision_digest,
        )
        identity = _identity(event.content_id, lineage, role)
        hour = event.origin.partition("/")[0]
        explanation, embedding, overlay = await asyncio.gather(
            self._keep(f"clean/explanations/{hour}/{identity}.npy", found.explanation),
            self._keep(f"clean/embeddings/{hour}/{identity}.npy", found.embedding),
            self._overlays.keep(f"{hour}/{identity}", found, chunks, offer.frames.frame_numbers),
        )
        return InstanceClassified(
            **_common(event, role),
            decision=found.decision,
            plane=found.plane,
            confidence=found.confidence,
            probabilities=found.probabilities,
            brain_plane=found.brain_plane,
            brain_probabilities=found.brain_probabilities,
            ood_score=found.ood_score,
            reasons=list(found.reasons),
            quality=offer.frames.quality,
            best_frame=found.best_frame,
            explanation=explanation,
            embedding=embedding,
            overlay=overlay,
            release_status=model.release_status,
            lineage=lineage,
            measured=_measured(event, found),
        )

    async def _keep(self, uri: str, array: NDArray[np.float32] | None) -> ObjectRef | None:
        if array is None:
            return None
        buffer = io.BytesIO()
        np.save(buffer, array.astype(np.float16), allow_pickle=False)
        return await asyncio.to_thread(self._objects.put, uri, buffer.getvalue(), _NPY)


def _not_applicable(event: FramesNormalized, role: Role) -> InstanceClassified:
    return InstanceClassified(
        **_common(event, role),
        decision=Decision.NOT_APPLICABLE,
        reasons=["no-image"],
        lineage=_lineage(event),
        measured=Measured(since_arrival_ms=_since(event.revision)),
    )


def _common(event: FramesNormalized, role: Role) -> dict[str, Any]:
    return {
        "content_id": event.content_id,
        "revision": event.revision,
        "origin": event.origin,
        "context": event.context,
        "sop_class_uid": event.sop_class_uid,
        "role": role,
    }


def _offers(event: FramesNormalized) -> list[PipelineFrames]:
    own = [PipelineFrames(pipeline_digest=event.pipeline_digest, frames=event.frames)] if event.frames else []
    return own + event.others


def _lineage(event: FramesNormalized, offer: PipelineFrames | None = None, **model: Any) -> Lineage:
    return Lineage(
        deidentified_sha256=event.deidentified_sha256,
        frames_sha256=offer.frames.object.sha256 if offer else None,
        profile=event.profile,
        rules_digest=event.rules_digest,
        pipeline_digest=offer.pipeline_digest if offer else event.pipeline_digest,
        **model,
    )


def _identity(content_id: str, lineage: Lineage, role: Role) -> str:
    """Return the result's ``ce_id``: decided by every version that decides the result, and by nothing measured."""
    versions = [
        lineage.profile,
        lineage.rules_digest,
        lineage.pipeline_digest,
        lineage.bundle_digest or "",
        lineage.precision,
        lineage.decision_digest or "",
        role,
    ]
    return event_id(content_id, _NAME, versions)


def _measured(event: FramesNormalized, found: Classification) -> Measured:
    energy = found.energy
    return Measured(
        inference_ms=round(found.inference_ms, 3),
        since_arrival_ms=_since(event.revision),
        joules=round(energy.joules, 6) if energy else None,
        energy_method=energy.method if energy else None,
    )


def _since(revision_ms: int) -> float:
    return round(max(time.time() * 1000 - revision_ms, 0.0), 1)


def _size(event: FramesNormalized) -> int:
    return max((offer.frames.object.size for offer in _offers(event)), default=0)
