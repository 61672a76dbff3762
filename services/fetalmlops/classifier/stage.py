"""From normalised frames to one current result an instance."""

from __future__ import annotations

import asyncio
import io
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fetalmlops.classifier import metrics
from fetalmlops.domain.contracts.events import FramesNormalized, InstanceClassified, Lineage, Measured
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.planes import Decision, Role
from fetalmlops.domain.contracts.topics import FRAMES_NORMALIZED, INSTANCE_CLASSIFIED
from fetalmlops.domain.imaging.frames import read_frames
from fetalmlops.platform.streams import Delivery, Emission, Outcome, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.events import FramesRef, ObjectRef
    from fetalmlops.platform.claims import Claims
    from fetalmlops.platform.inference.client import InferenceClient
    from fetalmlops.platform.objects import ObjectStore

__all__ = ["Classifier"]

_NAME = "classifier"
_NPY = "application/x-npy"


class Classifier:
    """The classification stage.

    Parameters
    ----------
    objects
        Store of the clean zone.
    inference
        Client of the inference service.
    claims
        Which contents have a result.
    """

    def __init__(self, objects: ObjectStore, inference: InferenceClient, claims: Claims) -> None:
        self._objects = objects
        self._inference = inference
        self._claims = claims

    @property
    def stage(self) -> Stage[FramesNormalized]:
        """The stage for `fetalmlops.platform.streams.process`."""
        return Stage(name=_NAME, source=FRAMES_NORMALIZED, event=FramesNormalized, handle=self.handle, size=_size)

    async def handle(self, delivery: Delivery[FramesNormalized]) -> Outcome:
        """Classify an instance, unless its content has a result already."""
        event, role = delivery.event, Role.CHAMPION
        if await self._claims.published(event.content_id, role):
            return Outcome(ends=True, verdict="repeated")
        result = await self._classified(event, event.frames, role) if event.frames else _not_applicable(event, role)
        identity = _identity(event.content_id, result.lineage, role)
        claim = await self._claims.claim(event.content_id, role, identity)
        if claim.published:
            return Outcome(ends=True, verdict="repeated")
        emission = Emission(
            topic=INSTANCE_CLASSIFIED,
            key=event.context.study,
            id=identity,
            event=msgspec.structs.replace(result, supersedes=claim.supersedes),
            subject=event.context.instance,
        )

        async def confirm() -> None:
            await self._claims.confirm(event.content_id, role, identity)
            metrics.RESULTS.labels(result.decision, result.plane or "", event.context.scanner).inc()
            metrics.LATENCY_SECONDS.labels(event.context.lane).observe(result.measured.since_arrival_ms / 1000)

        return Outcome(emissions=(emission,), ends=True, acknowledged=confirm, verdict=result.decision.value)

    async def _classified(self, event: FramesNormalized, frames: FramesRef, role: Role) -> InstanceClassified:
        container = read_frames(await asyncio.to_thread(self._objects.get, frames.object))
        found = await self._inference.classify([chunk.pixels for chunk in container.chunks()], frames.frame_numbers)
        model = found.model
        lineage = _lineage(
            event,
            bundle=model.name,
            bundle_version=model.version,
            bundle_digest=model.bundle_digest,
            precision=model.precision,
            engine=model.engine,
            decision_digest=model.decision_digest,
        )
        identity = _identity(event.content_id, lineage, role)
        hour = event.origin.partition("/")[0]
        explanation, embedding = await asyncio.gather(
            self._keep(f"clean/explanations/{hour}/{identity}.npy", found.explanation),
            self._keep(f"clean/embeddings/{hour}/{identity}.npy", found.embedding),
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
            quality=frames.quality,
            best_frame=found.best_frame,
            explanation=explanation,
            embedding=embedding,
            release_status=model.release_status,
            lineage=lineage,
            measured=Measured(inference_ms=round(found.inference_ms, 3), since_arrival_ms=_since(event.revision)),
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


def _lineage(event: FramesNormalized, **model: Any) -> Lineage:
    return Lineage(
        deidentified_sha256=event.deidentified_sha256,
        frames_sha256=event.frames.object.sha256 if event.frames else None,
        profile=event.profile,
        rules_digest=event.rules_digest,
        pipeline_digest=event.pipeline_digest,
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


def _since(revision_ms: int) -> float:
    return round(max(time.time() * 1000 - revision_ms, 0.0), 1)


def _size(event: FramesNormalized) -> int:
    return event.frames.object.size if event.frames else 0
