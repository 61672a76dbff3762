"""Records of releases in the phi zone: ``phi/releases/<arrival hour>/<content id>/<entry id>/<digest>``.

A record is never changed, and never deleted but with its patient. Its digest stands in its name and in the replay that cites
it: another record, or a changed one, is not taken for it.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NoReturn

from fetalmlops.domain.deid.faults import Refusal, refuse
from fetalmlops.domain.deid.pixels.release import Release
from fetalmlops.domain.errors import ContractError, ObjectMissingError

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.events import InstanceReceived, ObjectRef
    from fetalmlops.platform.objects import ObjectStore

__all__ = ["RELEASES", "keep_release", "read_release"]

RELEASES = "phi/releases"
"""Where the records are."""

_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/(?P<digest>[0-9a-f]{64})")
_MEDIA_TYPE = "application/json"


def keep_release(objects: ObjectStore, origin: str, release: Release) -> ObjectRef:
    """Store a record durably; the same one again changes nothing.

    Parameters
    ----------
    objects
        Store of the phi zone.
    origin
        Origin of the instance.
    release
        What to record.

    Raises
    ------
    ContractError
        If there are other bytes in its place.
    TransientError
        If the store does not answer, or has no room.
    """
    ref = objects.put(_uri(origin, release.content_id, release.name), release.data, _MEDIA_TYPE)
    if ref.sha256 != release.digest:
        msg = "Expected the record of this release in its place, got other bytes; the store may be damaged"
        raise ContractError(msg, reason=Refusal.RELEASE_INVALID.value)
    return ref


def read_release(objects: ObjectStore, event: InstanceReceived, name: str) -> Release | None:
    """Return the release that a replay cites, None if it cites none.

    Parameters
    ----------
    objects
        Store of the phi zone.
    event
        The instance to be de-identified.
    name
        What the replay calls the record; empty for none.

    Raises
    ------
    PermanentError
        If it is not there (reason ``release-missing``), is not what was cited or is of another instance
        (``release-invalid``).
    TransientError
        If the store does not answer.
    """
    if not name:
        return None
    cited = _NAME.fullmatch(name)
    if cited is None:
        _refuse_invalid("the name of a release", "another text")
    try:
        data = objects.read(_uri(event.origin, event.content_id, name))
    except ObjectMissingError:
        refuse("Expected the record of the release that is cited, got none; release again", Refusal.RELEASE_MISSING)
    if hashlib.sha256(data).hexdigest() != cited["digest"]:
        _refuse_invalid("the record of the release that is cited", "one that was changed")
    release = Release.parse(data)
    context = event.context
    said = (release.name, release.project, release.patient, release.content_id)
    if said != (name, context.project, context.patient, event.content_id):
        _refuse_invalid("a release of this instance", "one of another")
    return release


def _uri(origin: str, content_id: str, name: str) -> str:
    return f"{RELEASES}/{origin.partition('/')[0]}/{content_id}/{name}"


def _refuse_invalid(expected: str, got: str) -> NoReturn:
    refuse(f"Expected {expected}, got {got}; release the entry again", Refusal.RELEASE_INVALID)
