"""From a file's bytes to an answer: de-identified and decoded by a child, judged by the inference service, kept nowhere."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.contracts.sources import PixelTrust
from fetalmlops.domain.errors import PermanentError, TransientError
from fetalmlops.gateway import answers
from fetalmlops.gateway.answers import Explanation
from fetalmlops.gateway.child import UNPROVEN
from fetalmlops.gateway.problems import ProblemError, busy, disconnected, trace_id
from fetalmlops.platform.inference.channels import PIPELINE_REASON
from fetalmlops.platform.inference.overlays import draw_overlay
from fetalmlops.platform.sandbox.parent import ChildDiedError, ChildTimeoutError, SandboxError
from fetalmlops.platform.telemetry import get_logger, span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray

    from fetalmlops.gateway.child import Frames
    from fetalmlops.gateway.watching import Watch
    from fetalmlops.platform.dicom.devices import DevicesFolder
    from fetalmlops.platform.inference.client import Classification, InferenceClient, ModelIdentity
    from fetalmlops.platform.sandbox.parent import Sandbox
    from fetalmlops.platform.settings import Settings

__all__ = ["Classifier", "identity_of"]

_DIGITS: Final = 6
_log = get_logger(__name__)


class Classifier:
    """Classifies files.

    Parameters
    ----------
    settings
        The settings.
    sandbox
        Children that run `fetalmlops.gateway.child.read_file`, under limits.
    inference
        Client of the inference service.
    watch
        What serves.
    devices
        Profiles of devices, which prove pixels where regions do not.
    """

    def __init__(
        self,
        settings: Settings,
        sandbox: Sandbox[Frames],
        inference: InferenceClient,
        watch: Watch,
        devices: DevicesFolder,
    ) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._inference = inference
        self._watch = watch
        self._devices = devices

    async def classify(
        self, data: bytes, media_type: str, explanation: Explanation, gone: Callable[[], Awaitable[bool]]
    ) -> answers.Classification:
        """Classify a file.

        Parameters
        ----------
        data, media_type
            The file.
        explanation
            What of an explanation is wanted.
        gone
            Tells whether the caller has gone: the model is not asked for nobody.

        Raises
        ------
        ProblemError
            If it cannot be read (422), nobody is there to read or to judge it in time (503), or to be answered (408).
        """
        limit = self._settings.gateway.timeout_s
        try:
            async with asyncio.timeout(limit):
                frames, found = await self._judged(data, media_type, explanation, gone)
                return await self._answer(frames, found, explanation)
        except TimeoutError:
            raise busy("deadline", f"Expected an answer within {limit:g} s, got none; try again later") from None
        except (ChildDiedError, ChildTimeoutError) as error:
            reason = "decoder-died" if isinstance(error, ChildDiedError) else "decoder-timeout"
            _log.warning("file_stopped", reason=reason)
            detail = "Expected a file that can be decoded in bounded memory and time, got another; check who made it"
            raise ProblemError(422, reason, detail) from None
        except PermanentError as error:
            raise ProblemError(422, error.reason, str(error)) from None
        except TransientError as error:
            raise busy(error.dependency, str(error), error.retry_after_s) from None
        except SandboxError:
            raise busy("stopping", "Expected a gateway that takes files, got one that stops; try again later") from None

    async def _judged(
        self, data: bytes, media_type: str, explanation: Explanation, gone: Callable[[], Awaitable[bool]]
    ) -> tuple[Frames, Classification]:
        pipeline = self._watch.model.pipeline
        frames = await self._read(data, media_type, pipeline)
        if await gone():
            raise disconnected()
        try:
            return frames, await self._infer(frames, pipeline[1], explanation)
        except PermanentError as error:
            if error.reason != PIPELINE_REASON:
                raise
        # Another bundle has been promoted meanwhile: it takes frames of its own normalisation.
        await self._watch.refresh()
        pipeline = self._watch.model.pipeline
        frames = await self._read(data, media_type, pipeline)
        return frames, await self._infer(frames, pipeline[1], explanation)

    async def _read(self, data: bytes, media_type: str, pipeline: tuple[str, str]) -> Frames:
        settings = self._settings
        with span("gateway.read_file", attributes={"fetalmlops.media_type": media_type}):
            return await self._sandbox.call(
                data,
                media_type,
                pipeline,
                settings.deidentification_profile,
                settings.gateway.pixels,
                self._devices.current().encoded,
                timeout=settings.gateway.decode_timeout_s,
            )

    async def _infer(self, frames: Frames, pipeline_digest: str, explanation: Explanation) -> Classification:
        return await self._inference.classify(
            [_pixels(frames)],
            frames.frame_numbers,
            # A service that is overloaded is the caller's to ask again, not ours to hold the file for.
            patient=False,
            want_embedding=False,
            want_explanation=explanation is not Explanation.NONE,
            pipeline_digest=pipeline_digest,
        )

    async def _answer(self, frames: Frames, found: Classification, explanation: Explanation) -> answers.Classification:
        overlay = None
        if explanation is Explanation.OVERLAY and found.explanation is not None:
            overlay = await self._overlay(frames, found)
        return answers.Classification(
            plane=found.plane,
            confidence=_share(found.confidence),
            probabilities=_shares(found.probabilities),
            brain_plane=found.brain_plane,
            brain_probabilities=_shares(found.brain_probabilities) or None,
            decision=answers.Decision(outcome=found.decision, reasons=list(found.reasons)),
            ood_score=None if found.ood_score is None else round(found.ood_score, _DIGITS),
            quality=_quality(frames),
            frames=answers.Frames(
                total=frames.total_frames,
                judged=len(frames.frame_numbers),
                best=found.best_frame,
                rows=frames.rows,
                columns=frames.columns,
                mode=frames.mode,
            ),
            model=identity_of(found.model),
            deidentification=answers.Deidentification(profile=frames.profile, pixels=frames.pixel_action),
            map=_map(found) if explanation is Explanation.MAP else None,
            overlay=overlay,
            not_available=_lacking(found, explanation),
            trace_id=trace_id(),
        )

    async def _overlay(self, frames: Frames, found: Classification) -> answers.Overlay:
        trusted = PixelTrust(self._settings.gateway.pixels) is not PixelTrust.VALIDATE
        shown = trusted and frames.pixel_action != UNPROVEN
        frame = _pixels(frames)[frames.frame_numbers.index(found.best_frame)]
        picture = await asyncio.to_thread(draw_overlay, found, frame if shown else np.zeros_like(frame))
        return answers.Overlay(frame="shown" if shown else "left_out", data=base64.b64encode(picture).decode())


def identity_of(model: ModelIdentity) -> answers.Model:
    """Return a model's identity as it is answered."""
    return answers.Model(
        name=model.name,
        version=model.version,
        digest=model.bundle_digest,
        precision=model.precision,
        engine=model.engine,
        release_status=model.release_status,
    )


def _pixels(frames: Frames) -> NDArray[np.uint8]:
    return np.frombuffer(frames.pixels, np.uint8).reshape(-1, frames.rows, frames.columns)


def _share(value: float) -> float:
    return min(max(round(value, _DIGITS), 0.0), 1.0)


def _shares(values: dict[str, float]) -> dict[str, float]:
    return {label: _share(value) for label, value in values.items()}


def _quality(frames: Frames) -> answers.Quality:
    return answers.Quality(**{name: _share(getattr(frames.quality, name)) for name in frames.quality.__struct_fields__})


def _map(found: Classification) -> answers.Map | None:
    grid = found.explanation
    if grid is None:
        return None
    values = np.round(grid.astype(np.float64), _DIGITS).tolist()
    return answers.Map(
        plane=found.plane, frame=found.best_frame, rows=grid.shape[0], columns=grid.shape[1], values=values
    )


def _lacking(found: Classification, explanation: Explanation) -> list[str]:
    lacking = {
        "brain_planes": not found.brain_probabilities,
        "ood_score": found.ood_score is None,
        "explanation": explanation is not Explanation.NONE and found.explanation is None,
    }
    return [name for name, lacks in lacking.items() if lacks]
