"""What serves: asked for again and again, so that files are normalised for the bundle that will judge them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.errors import FetalMLOpsError, TransientError
from fetalmlops.domain.imaging.pipelines.named import pipeline_of
from fetalmlops.domain.models.manifest import decode_manifest
from fetalmlops.gateway.problems import busy

if TYPE_CHECKING:
    from fetalmlops.domain.models.manifest import Manifest
    from fetalmlops.platform.health import Health
    from fetalmlops.platform.inference.client import InferenceClient, ModelIdentity

__all__ = ["ServedModel", "Watch"]

_MODEL: Final = "inference"
_EVERY_S: Final = 1.0
_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class ServedModel:
    """A model that serves.

    Parameters
    ----------
    role
        In which role it serves.
    identity
        Which it is.
    manifest
        Its manifest.
    """

    role: Role
    identity: ModelIdentity
    manifest: Manifest

    @property
    def pipeline(self) -> tuple[str, str]:
        """Name and digest of the normalisation that it takes."""
        return self.manifest.pipeline.name, self.manifest.pipeline.digest


class Watch:
    """Knows what serves.

    Parameters
    ----------
    inference
        Client of the inference service.
    health
        Where to say that none serves.
    """

    def __init__(self, inference: InferenceClient, health: Health) -> None:
        self._inference = inference
        self._health = health
        self._model: ServedModel | None = None
        health.waiting_for(_MODEL)

    @property
    def model(self) -> ServedModel:
        """What serves; raises `ProblemError` (503) where nothing does."""
        if self._model is None:
            raise busy("no-model", "Expected a model that serves, got none; try again later")
        return self._model

    async def models(self) -> list[ServedModel]:
        """Return what serves in any role, the champion first; raises `ProblemError` (503) where no champion does."""
        champion = self.model
        try:
            found = await self._inference.metadata(role=Role.SHADOW, timeout=_TIMEOUT_S)
        except FetalMLOpsError:
            return [champion]
        return [champion, ServedModel(Role.SHADOW, found.model, decode_manifest(found.manifest))]

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(_EVERY_S)

    async def refresh(self) -> None:
        """Ask once; who cannot be reached serves no model."""
        try:
            metadata = await self._inference.metadata(timeout=_TIMEOUT_S)
            if self._model is None or self._model.identity != metadata.model:
                manifest = decode_manifest(metadata.manifest)
                pipeline_of(manifest.pipeline.name, manifest.pipeline.digest)
                self._model = ServedModel(Role.CHAMPION, metadata.model, manifest)
                self._health.note("bundle", f"{metadata.model.name} {metadata.model.version}")
        except TransientError as error:
            # One that is only slow to answer, under load, serves what it served.
            if error.everyone or self._model is None:
                self._lose("")
        except FetalMLOpsError as error:
            self._lose(str(error))
        else:
            self._health.note("bundle_refused", None)
            self._health.served_by(_MODEL)

    def _lose(self, why: str) -> None:
        self._model = None
        self._health.note("bundle_refused", why or None)
        self._health.waiting_for(_MODEL)
