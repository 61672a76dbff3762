"""Following the promotions: each bundle is fetched, proven and warmed before it serves; what fails changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.events import ModelPromoted
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import MODEL_PROMOTED
from fetalmlops.domain.errors import ContractError, FetalMLOpsError, TransientError
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.check import check_pipeline
from fetalmlops.platform.inference.promotion import fetch_bundle
from fetalmlops.platform.streams import follow
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.inference.hosting import ModelHost
    from fetalmlops.inference.server import InferenceServer
    from fetalmlops.platform.bus import Publisher
    from fetalmlops.platform.health import Health
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.service import Service
    from fetalmlops.platform.streams import Delivery

__all__ = ["MODEL", "Promotions", "follow_promotions"]

MODEL: Final = "a promoted model"
"""What the process waits for until a champion serves."""

_REMEDY: Final = (
    "What served before goes on serving; make that the record by `fetalmlops rollback`, or promote a whole bundle"
)
_PREFIXES: Final = {Role.CHAMPION: "", Role.SHADOW: "shadow_"}
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 5.0
_log = get_logger(__name__)


class Promotions:
    """Lets each promoted bundle serve in its role.

    Parameters
    ----------
    host
        Holds the models.
    server
        Tells health checks when a champion serves.
    objects
        Where bundles lie.
    health
        Health of the process.
    pipelines
        Digests of the pipelines that the normalizer runs.
    roles
        Roles that this process serves; promotions to others are not its own.
    """

    def __init__(
        self,
        host: ModelHost,
        server: InferenceServer,
        objects: ObjectStore,
        health: Health,
        pipelines: Collection[str],
        roles: Collection[Role] = (Role.CHAMPION,),
    ) -> None:
        self._host = host
        self._server = server
        self._objects = objects
        self._health = health
        self._pipelines = pipelines
        self._roles = roles
        self._since_ms = dict.fromkeys(roles, -1)
        self._refused_ms = dict.fromkeys(roles, -1)

    async def apply(self, delivery: Delivery[ModelPromoted]) -> bool:
        """Fetch, prove and serve a promoted bundle, or end a role; False says that the role is not ours.

        Of all promotions to a role the last one that can be served counts, in whatever order they are read.

        Raises
        ------
        FetalMLOpsError
            If the bundle cannot be fetched, fails the technical gate or is for a pipeline that the normalizer does not run;
            what served before goes on serving.
        """
        promotion, moment = delivery.event, delivery.envelope.time_ms
        role = promotion.role
        if role not in self._roles:
            return False
        if moment < self._since_ms[role]:
            return True
        try:
            await self._obey(promotion)
        except FetalMLOpsError as error:
            # At a start the last promotion is tried first: those before it are not what a person wants to read of.
            if moment >= self._refused_ms[role]:
                self._refused_ms[role] = moment
                self._note(role, "bundle_refused", f"{promotion.model} {promotion.version}: {error}")
            msg = (
                f"Expected {promotion.model} {promotion.version}, digest {promotion.bundle_digest[:12]}…, to serve as "
                f"{role}, got a bundle that cannot: {error}"
            )
            raise ContractError(msg, reason="promotion") from error
        self._since_ms[role] = moment
        # One before it that serves does not undo its refusal.
        if moment >= self._refused_ms[role]:
            self._note(role, "bundle_refused", None)
        return True

    async def _obey(self, promotion: ModelPromoted) -> None:
        role = promotion.role
        if promotion.retired:
            if role is Role.CHAMPION:
                msg = "Expected a champion to be replaced, got one that is to end; promote another, or roll back"
                raise ContractError(msg, reason="promotion")
            await self._host.end(role)
            self._tell(role, None)
            return
        bundle = await self._proven(promotion)
        self._tell(role, bundle)
        if role is Role.CHAMPION:
            self._health.served_by(MODEL)
            await self._server.set_ready(ready=True)

    async def _proven(self, promotion: ModelPromoted) -> Bundle:
        files = await self._fetched(promotion)
        try:
            bundle = await asyncio.to_thread(load_bundle, files, promotion.bundle_digest)
            check_pipeline(bundle.manifest, self._pipelines)
            await self._host.swap(bundle, promotion.role)
        except FetalMLOpsError:
            raise
        except Exception as error:
            # Whatever an engine raises on a network that is none: the process must not end, or the champion would with it.
            _log.exception("bundle_failed", model=promotion.model, digest=promotion.bundle_digest[:12])
            msg = f"Expected a bundle that an engine can run, got {type(error).__name__}; see the log, and rebuild it"
            raise ContractError(msg, reason="bundle") from error
        return bundle

    async def _fetched(self, promotion: ModelPromoted) -> dict[str, bytes]:
        """Fetch a bundle, waiting for a store that is away: it is no reason to refuse what was promoted."""
        delay, waiting = _FIRST_WAIT_S, ""
        while True:
            try:
                files = await asyncio.to_thread(fetch_bundle, self._objects, promotion.manifest)
            except TransientError as error:
                waiting = error.dependency
                # While a champion serves, the process is able to work.
                if self._host.current is None:
                    self._health.waiting_for(waiting)
                _log.warning("bundle_waits", model=promotion.model, error=str(error))
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LONGEST_WAIT_S)
            else:
                if waiting:
                    self._health.served_by(waiting)
                return files

    def _tell(self, role: Role, bundle: Bundle | None) -> None:
        manifest = bundle.manifest if bundle else None
        self._note(role, "bundle", f"{manifest.name} {manifest.version}" if manifest else None)
        self._note(role, "bundle_digest", bundle.digest if bundle else None)
        self._note(role, "pipeline", manifest.pipeline.name if manifest else None)
        self._note(role, "release_status", manifest.release_status if manifest else None)

    def _note(self, role: Role, name: str, value: str | None) -> None:
        self._health.note(_PREFIXES[role] + name, value)


async def follow_promotions(promotions: Promotions, service: Service, publisher: Publisher) -> None:
    """Obey the promotions until the process is asked to stop; each one that cannot be obeyed raises an alarm."""
    await follow(
        MODEL_PROMOTED,
        ModelPromoted,
        promotions.apply,
        service,
        publisher,
        state=lambda promotion: promotion.role,
        remedy=_REMEDY,
    )
