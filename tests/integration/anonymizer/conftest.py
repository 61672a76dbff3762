"""A real vault, store and sandbox for the anonymizer, and instances to give it."""

from __future__ import annotations

import hashlib
import io
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import pytest

from fetalmlops.domain.contracts.events import Context, InstanceReceived
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.deid.files.reader import read_header
from fetalmlops.domain.deid.identity import read_identity
from fetalmlops.domain.errors import PermanentError
from fetalmlops.platform.deid.keys import load_pseudonym_key
from fetalmlops.platform.objects import ObjectStore, open_objects
from support.deid import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.platform.settings import Settings

    Receive = Callable[..., InstanceReceived]

__all__ = ["files", "objects", "receive"]


@pytest.fixture
def objects(embedded: Settings) -> ObjectStore:
    return open_objects(embedded, *Zone)


@pytest.fixture
def receive(embedded: Settings, objects: ObjectStore) -> Receive:
    """Stores an instance as the listener does, and returns its event."""
    key = load_pseudonym_key(embedded)

    def make(part10: bytes, *, source: str = "simulator", **changes: str) -> InstanceReceived:
        content_id = hashlib.sha256(part10 + uuid.uuid4().bytes).hexdigest()[:32]
        origin = f"2026-01-01T00/{content_id}"
        ref = objects.put(f"phi/instances/{origin}", part10, "application/dicom")
        pseudonyms, sop_class_uid = dict.fromkeys(("patient", "study", "series", "instance"), "0" * 32), "1.2.3"
        with suppress(PermanentError):
            identity = read_identity(read_header(io.BytesIO(part10), _WANTED).dataset, key)
            sop_class_uid, pseudonyms = identity.instance.sop_class_uid, vars(identity.pseudonyms)
        context = Context(
            project=key.project, source=source, site="site", scanner="1" * 32, software="2" * 32, **pseudonyms
        )
        return InstanceReceived(
            content_id=content_id,
            revision=1,
            origin=origin,
            context=msgspec.structs.replace(context, **changes),
            sop_class_uid=sop_class_uid,
            object=ref,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
        )

    return make


_WANTED = dict.fromkeys(
    (0x0008_0005, 0x0008_0016, 0x0008_0018, 0x0010_0020, 0x0010_0021, 0x0020_000D, 0x0020_000E), None
)
