"""From a received instance to a clean one: vault entry, clean object, event, in this order."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from fetalmlops.anonymizer.texts import Texts, rules_digest
from fetalmlops.domain.contracts.events import InstanceDeidentified, InstanceReceived
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.sources import PixelTrust
from fetalmlops.domain.contracts.topics import INSTANCE_DEIDENTIFIED, INSTANCE_RECEIVED, Zone
from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
from fetalmlops.domain.deid.pixels.trust import TextVerdict
from fetalmlops.domain.errors import PermanentError
from fetalmlops.platform.deid.releases import read_release
from fetalmlops.platform.streams import Delivery, Emission, Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from fetalmlops.anonymizer.child import CleanFile
    from fetalmlops.anonymizer.readers import Readers
    from fetalmlops.anonymizer.revisions import Revisions
    from fetalmlops.domain.contracts.events import ObjectRef
    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.contracts.sources import Sources
    from fetalmlops.domain.deid import Deidentified, Profile, Vault
    from fetalmlops.domain.deid.pixels.release import Release
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.sandbox.parent import Sandbox

__all__ = ["DRAFT_PREFIX", "Anonymizer"]

DRAFT_PREFIX = "deid-"
"""How the folders of unfinished clean files begin."""

_NAME = "anonymizer"
_MEDIA_TYPE = "application/dicom"


class Anonymizer:
    """The de-identification stage.

    Parameters
    ----------
    objects
        Store of both zones.
    sandbox
        Children that run `fetalmlops.anonymizer.child.deidentify_file`, under limits.
    vault
        Where identities go.
    revisions
        Which receipt of a content came first.
    key
        The project's pseudonym key.
    profile
        What to do.
    sources
        Returns the table of sources that counts now: it says whose pixels are declared clean.
    devices
        Returns the profiles of devices that count now; default: none.
    texts
        Whose text is looked for; default: nobody's.
    readers
        Where children of the same work come from that can look for text; default: those of `sandbox` can.
    """

    def __init__(
        self,
        objects: ObjectStore,
        sandbox: Sandbox[CleanFile],
        vault: Vault,
        revisions: Revisions,
        key: PseudonymKey,
        profile: Profile,
        sources: Callable[[], Sources],
        devices: Callable[[], DeviceProfiles] = DeviceProfiles,
        texts: Texts | None = None,
        readers: Readers | None = None,
    ) -> None:
        self._objects = objects
        self._sandbox = sandbox
        self._vault = vault
        self._revisions = revisions
        self._key = key
        self._profile = profile
        self._sources = sources
        self._devices = devices
        self._texts = texts or Texts()
        self._readers = readers

    @property
    def stage(self) -> Stage[InstanceReceived]:
        """The stage for `fetalmlops.platform.streams.process`."""
        return Stage(
            name=_NAME,
            source=INSTANCE_RECEIVED,
            event=InstanceReceived,
            handle=self.handle,
            size=lambda event: event.object.size,
        )

    async def handle(self, delivery: Delivery[InstanceReceived]) -> Outcome:
        """De-identify an instance.

        Raises
        ------
        PermanentError
            If it cannot be de-identified, is not the instance that its event says (reason ``context-mismatch``), or comes
            with a release that does not hold for it (``release-missing``, ``release-invalid``).
        """
        event = delivery.event
        if event.context.project != self._key.project:
            raise _mismatch("project")
        trust = self._trust(event.context.source)
        devices = self._devices()
        texts = self._texts.under(rules_digest(self._profile.digest, devices.digest))
        verdict = None if trust is PixelTrust.REGIONS else await texts.verdict(event)
        release = await asyncio.to_thread(read_release, self._objects, event, delivery.envelope.release)
        if release and verdict:  # a person's areas are not those that the scanner has earned trust for
            verdict = TextVerdict.UNTRUSTED_CHECKED
        # What is off leaves no trace, so that ids stay what they were without it.
        used = [word for word in (devices.digest, verdict, release.digest if release else "") if word]
        identity = event_id(event.content_id, _NAME, [self._profile.digest, self._profile.name, trust.value, *used])
        try:
            result, ref = await self._deidentify(delivery, identity, trust, devices, verdict, release)
        except PermanentError as error:
            await texts.refused(event, error)
            raise
        if release is None:
            await texts.found_none(event, result.report)
        deidentified = InstanceDeidentified(
            content_id=event.content_id,
            revision=await self._revisions.settle(event.content_id, event.revision),
            origin=event.origin,
            context=event.context,
            sop_class_uid=event.sop_class_uid,
            object=ref,
            transfer_syntax_uid=result.transfer_syntax_uid,
            deidentification=result.report,
        )
        emission = Emission(
            topic=INSTANCE_DEIDENTIFIED,
            key=event.context.instance,
            id=identity,
            event=deidentified,
            subject=event.context.instance,
        )
        return Outcome(emissions=(emission,))

    def _children(
        self, delivery: Delivery[InstanceReceived], verdict: TextVerdict | None
    ) -> AbstractAsyncContextManager[Sandbox[CleanFile]]:
        if self._readers and verdict and verdict.checks:
            return self._readers.lend(delivery.off_the_clock)
        return nullcontext(self._sandbox)

    def _trust(self, source_id: str) -> PixelTrust:
        source = self._sources().get(source_id)
        return source.pixels if source else PixelTrust.VALIDATE

    async def _deidentify(
        self,
        delivery: Delivery[InstanceReceived],
        identity: str,
        trust: PixelTrust,
        devices: DeviceProfiles,
        verdict: TextVerdict | None,
        release: Release | None,
    ) -> tuple[Deidentified, ObjectRef]:
        key = (self._key.project, self._key.secret)
        event = delivery.event
        incoming = self._objects.incoming_folder(Zone.CLEAN)
        with tempfile.TemporaryDirectory(prefix=DRAFT_PREFIX, dir=incoming, ignore_cleanup_errors=True) as folder:
            draft = Path(folder) / "clean"
            async with self._objects.lend(event.object) as place, self._children(delivery, verdict) as children:
                clean = await children.call(
                    str(place),
                    str(draft),
                    key,
                    self._profile.name,
                    trust.value,
                    devices.encoded,
                    verdict or "",
                    release.data if release else b"",
                )
            _check(event, clean.result)
            await self._vault.put(clean.result.identity)
            uri = f"clean/instances/{event.origin.partition('/')[0]}/{identity}"
            ref = await asyncio.to_thread(self._objects.put_file, uri, draft, _MEDIA_TYPE, sha256=clean.sha256)
        return clean.result, ref


def _check(event: InstanceReceived, result: Deidentified) -> None:
    """Make sure that the object is the instance of the event: its identity must never reach another one's entry."""
    context, pseudonyms = event.context, result.identity.pseudonyms
    same = (context.patient, context.study, context.series, context.instance, event.sop_class_uid) == (
        pseudonyms.patient,
        pseudonyms.study,
        pseudonyms.series,
        pseudonyms.instance,
        result.sop_class_uid,
    )
    if not same:
        raise _mismatch("instance")


def _mismatch(what: str) -> PermanentError:
    msg = f"Expected the {what} of the event, got another one; check that listener and anonymizer have the same key"
    return PermanentError(msg, reason="context-mismatch")
